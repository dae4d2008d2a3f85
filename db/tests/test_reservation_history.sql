-- What became of a hold is told whole: a payment that was not made, and each part that was refunded.
begin;
select plan(10);

select pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan', 'eve');
select pg_temp.make_drop('shoes', 20);
select pg_temp.make_drop('over', 20);

-- What became of a user's hold of a drop, after it was reserved: what, who, how many units, which amount.
create function pg_temp.history_of(p_drop text, p_user text) returns text[] language sql stable as $$
  select array_agg(
    concat_ws(' ', h.action, coalesce(substr(u.username, 7), 'nobody'), h.details ->> 'qty', h.details ->> 'amount') order by h.n)
  from api.reservation_history(
    (select r.id from inventory.reservations r where r.drop_id = pg_temp.drop_id(p_drop) and r.user_id = pg_temp.user_id(p_user)),
    pg_temp.user_id(p_user)
  ) with ordinality as h (at, action, user_id, details, n)
  left join inventory.users u on u.id = h.user_id
  where h.action <> 'reserved'
$$;

-- Refunds.

do $$
begin
  perform api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), p_qty => 6);
  perform api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'));
  perform api.refund_purchase(pg_temp.purchase_id('shoes', 'ann'), pg_temp.user_id('bob'), p_qty => 1);
  perform api.refund_purchase(pg_temp.purchase_id('shoes', 'ann'), pg_temp.user_id('seller'), p_qty => 2);
end
$$;
select is(
  pg_temp.history_of('shoes', 'ann'), array['purchased ann 6 60.00', 'refunded bob 1 10.00', 'refunded seller 2 20.00'],
  'Each refund is told, with who made it.'
);
select pg_temp.hold('over', 'eve');
do $$
begin
  perform api.cancel_drop(pg_temp.drop_id('shoes'), true, pg_temp.user_id('seller'));
  perform api.update_drop(pg_temp.drop_id('over'), '{"status": "ended"}');
  perform api.cancel_drop(pg_temp.drop_id('over'), true, pg_temp.user_id('seller'));
end
$$;
select is(
  pg_temp.history_of('shoes', 'ann'),
  array['purchased ann 6 60.00', 'refunded bob 1 10.00', 'refunded seller 2 20.00', 'refunded seller 3 30.00'],
  'So is what was refunded together with other purchases.'
);
select is(pg_temp.history_of('over', 'eve'), array['cancelled seller'], 'The seller of a drop that is over has released the hold.');

-- Payments that were not made.

select api.set_payment_provider('stripe', 600);
select pg_temp.make_drop('paid', 20);
select pg_temp.buy('paid', 'ann', 'bob', 'cat', 'dan');
do $$
begin
  perform api.cancel_payment(pg_temp.payment_id('paid', 'ann'), pg_temp.user_id('ann'));
  perform pg_temp.tell_of('paid', 'bob', 'cancelled');
  perform pg_temp.let_payment_run_out('paid', 'cat');
end
$$;
select is(pg_temp.history_of('paid', 'ann'), array['purchased ann 1 10.00', 'cancelled ann'], 'A buyer has cancelled the payment.');
select is(pg_temp.history_of('paid', 'bob'), array['purchased bob 1 10.00', 'cancelled nobody'], 'The provider has.');
select is(pg_temp.history_of('paid', 'cat'), array['purchased cat 1 10.00', 'expired nobody'], 'Time ran out, before a sweep');
do $$ begin perform api.expire_payments(); end $$;
select is(pg_temp.history_of('paid', 'cat'), array['purchased cat 1 10.00', 'expired nobody'], 'and after it.');
do $$
begin
  perform api.update_drop(pg_temp.drop_id('paid'), '{"status": "cancelled"}', p_changed_by => pg_temp.user_id('seller'));
end
$$;
select is(pg_temp.history_of('paid', 'dan'), array['purchased dan 1 10.00', 'cancelled seller'], 'The seller has cancelled the drop.');

-- Money that went back at the provider.

select pg_temp.make_drop('back', 20);
select pg_temp.buy('back', 'ann');
do $$
begin
  perform pg_temp.tell_of('back', 'ann', 'paid');
  perform pg_temp.tell_of('back', 'ann', 'refunded');
end
$$;
select is(
  pg_temp.history_of('back', 'ann'), array['purchased ann 1 10.00', 'refunded nobody 1 10.00'],
  'A refund at the provider is told.'
);
select is_empty('select * from pg_temp.findings()', 'The books balance.');

select * from finish();
rollback;
