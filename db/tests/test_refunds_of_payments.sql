-- Refunds by the seller, whole or unit by unit: the units go back, the provider is to pay the money back, never more than it got.
begin;
select plan(61);

select pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan', 'eve');
select pg_temp.make_drop('shoes', 20);
select pg_temp.make_drop('cancelled', 9);
select pg_temp.make_drop('over', 9);
select pg_temp.make_drop('seed', 9);

create function pg_temp.buy_units(p_drop text, p_user text, p_qty integer) returns void language plpgsql as $$
begin
  perform api.reserve(pg_temp.drop_id(p_drop), pg_temp.user_id(p_user), p_qty => p_qty);
  perform api.purchase(pg_temp.drop_id(p_drop), pg_temp.user_id(p_user));
end
$$;
create function pg_temp.refund(p_drop text, p_user text, p_qty integer, p_key text default null) returns text language sql as $$
  select concat_ws(' ', r.status, r.refunded_qty, r.refunded_amount)
  from api.refund_purchase(pg_temp.purchase_id(p_drop, p_user), null, p_key, p_qty) r
$$;
create function pg_temp.payment_of(p_drop text, p_user text) returns text language sql as $$
  select concat_ws(' ', y.status, y.refunded_amount) from inventory.payments y where y.id = pg_temp.payment_id(p_drop, p_user)
$$;

-- Without a provider.

select pg_temp.buy_units('seed', 'ann', 3);
select is(pg_temp.refund('seed', 'ann', 1), 'paid 1 10.00', 'One of three units is refunded; the purchase stays paid.');
select is(pg_temp.stock_of('seed'), 7, 'One unit is back.');
select results_eq(
  $$select qty, amount, refunded_at from inventory.purchases where id = pg_temp.purchase_id('seed', 'ann')$$,
  $$values (3, 30.00, now())$$, 'What was bought stays.'
);
select is((select details - 'purchase_id' from api.history(pg_temp.drop_id('seed'), 1)), '{"qty": 1, "amount": 10.00}',
  'The history says what was refunded.');
select is(pg_temp.refusal(format('select api.refund_purchase(%L, p_qty => %s)', pg_temp.purchase_id('seed', 'ann'), qty)),
  pg_temp.error('VALIDATION_ERROR', 'qty: must be between 1 and 2, the units that are not refunded'), format('%s units cannot be.', qty))
from unnest(array[0, -1, 3]) as qty;
select is(pg_temp.refund('seed', 'ann', 1, 'key'), 'paid 2 20.00', 'With a key,');
select is(pg_temp.refund('seed', 'ann', 1, 'key'), 'paid 2 20.00', 'a repeat refunds nothing more.');
select is(pg_temp.refusal(format('select api.refund_purchase(%L, null, ''key'', %s)', pg_temp.purchase_id('seed', 'ann'), qty)),
  pg_temp.error('IDEMPOTENCY_KEY_REUSED'), 'The key is for that many units: ' || qty)
from unnest(array['2', 'null']) as qty;
select is(
  (select counts from api.drop_money(pg_temp.drop_id('seed'))), '{"paid": 1}', 'It counts as paid.'
);
select results_eq(
  $$select sold_for, refunded, open from api.drop_money(pg_temp.drop_id('seed'))$$, $$values (30.00, 20.00, 0::numeric)$$,
  'The money says what was refunded.'
);
select is(pg_temp.refund('seed', 'ann', null), 'refunded 3 30.00', 'All that is left makes it refunded.');
select is(pg_temp.stock_of('seed'), 9, 'All units are back.');
select is(
  (select (a.drops -> 0 -> 'points' -> -1) - 'at' from (select drops::jsonb as drops from api.activity(600, array[pg_temp.drop_id('seed')])) a),
  '{"sold": 3, "held": 0, "available": 9}', 'The chart says so.'
);

-- With one.

do $$
begin
  perform api.set_payment_provider('stripe', 600);
  perform pg_temp.buy_units('shoes', 'ann', 4);
  perform pg_temp.buy_units('shoes', 'bob', 4);
  perform pg_temp.buy_units('shoes', 'cat', 1);
  perform pg_temp.tell_of('shoes', 'ann', 'paid');
  perform pg_temp.tell_of('shoes', 'bob', 'paid');
  update inventory.provider_calls set done_at = now();
end
$$;
select is(pg_temp.refusal($$select api.refund_purchase(pg_temp.purchase_id('shoes', 'cat'))$$),
  pg_temp.error('INVALID_STATUS_CHANGE', 'A purchase that is pending cannot be refunded.'), 'What is not paid cannot be refunded.');
select is(pg_temp.refund('shoes', 'ann', 1), 'paid 1 10.00', 'One of four units is refunded.');
select is(pg_temp.payment_of('shoes', 'ann'), 'paid 10.00', 'The payment says how much.');
select is(pg_temp.tell_of('shoes', 'ann', 'refunded', 10), 'unchanged paid', 'The provider says the same.');
select is(pg_temp.refund('shoes', 'ann', null), 'refunded 4 40.00', 'Then all the others are.');
select is(pg_temp.payment_of('shoes', 'ann'), 'refunded 40.00', 'The payment is refunded.');
select is((pg_temp.calls_of('shoes'))[4:], array['ann refund 10.00', 'ann refund 30.00'], 'The provider is to pay back both amounts.');
select is(pg_temp.tell_of('shoes', 'ann', 'refunded'), 'unchanged refunded', 'It confirms them.');
select is((pg_temp.calls_of('shoes'))[4:], array['ann refund 10.00 done', 'ann refund 30.00 done'], 'So nothing is left to call.');
select is(pg_temp.stock_of('shoes'), 15, 'Every unit came back once.');

-- The provider has refunded a part of its own accord: no more than the rest is paid back.

select is(pg_temp.tell_of('shoes', 'bob', 'refunded', 15), 'flagged refunded_in_part paid', 'A part is refunded at the provider.');
select is(pg_temp.refund('shoes', 'bob', 2), 'paid 2 20.00', 'Two units are refunded here.');
select is(pg_temp.payment_of('shoes', 'bob'), 'paid 35.00', 'The payment says both.');
select is(pg_temp.refund('shoes', 'bob', 2), 'refunded 4 40.00', 'So are the others.');
select is(pg_temp.payment_of('shoes', 'bob'), 'refunded 40.00', 'No more is refunded than was paid.');
select is((pg_temp.calls_of('shoes'))[6:], array['bob refund 20.00', 'bob refund 5.00'], 'The provider pays back no more.');

-- Nothing is left of the money, but a unit is still sold.

select pg_temp.make_drop('both', 10);
select pg_temp.buy_units('both', 'ann', 2);
select pg_temp.buy_units('both', 'bob', 2);
select pg_temp.tell_of('both', 'ann', 'paid'), pg_temp.tell_of('both', 'bob', 'paid');
select is(pg_temp.tell_of('both', v.name, 'refunded', 15), 'flagged refunded_in_part paid', 'More than a unit cost is refunded there.')
from (values ('ann'), ('bob')) as v (name);
select is(pg_temp.refund('both', v.name, 1), 'paid 1 10.00', 'A unit is refunded here.') from (values ('ann'), ('bob')) as v (name);
select is(pg_temp.payment_of('both', 'ann'), 'paid 20.00', 'All the money goes back, and a unit is sold.');
select is((select count(*) from api.audit()), 0::bigint, 'That may be for a while.');
select is(pg_temp.tell_of('both', 'ann', 'refunded', 20), 'applied refunded', 'The provider has given all of it back.');
select is(pg_temp.purchases_on('both'), array['ann refunded', 'bob paid'], 'So the other unit goes back, too.');
select is(pg_temp.stock_of('both'), 9, 'It is stock.');
select is(pg_temp.tell_of('both', 'ann', 'refunded', 20), 'unchanged refunded', 'It goes back once.');
select is(pg_temp.refund('both', 'bob', 1), 'refunded 2 20.00', 'The seller may refund the other unit before that.');
select is(pg_temp.payment_of('both', 'bob'), 'refunded 20.00', 'It is refunded, too.');
select is(pg_temp.tell_of('both', 'bob', 'refunded', 20), 'unchanged refunded', 'There is nothing to do then.');
select is((pg_temp.calls_of('both'))[3:], array['ann refund 5.00 done', 'bob refund 5.00 done'],
  'Each was to be paid back what was left.');

-- Whole drops.

do $$
begin
  perform pg_temp.buy_units('cancelled', 'ann', 2);
  perform pg_temp.buy('cancelled', 'bob', 'cat', 'dan');
  perform pg_temp.buy('over', 'bob', 'cat');
  perform pg_temp.tell_of(d.name, u.name, 'paid')
  from (values ('cancelled', 'ann'), ('cancelled', 'bob'), ('over', 'bob')) as v (drop, buyer)
  cross join lateral (select v.drop as name) d
  cross join lateral (select v.buyer as name) u;
  perform pg_temp.refund('cancelled', 'ann', 1);
  perform api.update_drop(pg_temp.drop_id('over'), '{"status": "ended"}');
end
$$;
select is((select remaining from api.cancel_drop(pg_temp.drop_id('cancelled'), true)), 0::bigint, 'A drop is cancelled and refunded.');
select is(pg_temp.purchases_on('cancelled'), array['ann refunded', 'bob refunded', 'cat cancelled', 'dan cancelled'],
  'What was paid is refunded, what was not is cancelled.');
select is(pg_temp.stock_of('cancelled'), 9, 'Every unit is back.');
select is(
  (select array_agg(call order by call) from unnest((pg_temp.calls_of('cancelled'))[5:]) call),
  array['ann refund 10.00', 'ann refund 10.00', 'bob refund 10.00', 'cat cancel 10.00', 'dan cancel 10.00'],
  'The provider is told what each of them needs.'
);
select results_eq(
  $$select details from api.history(pg_temp.drop_id('cancelled'), 1)$$, $$values ('{"amount": 20.00, "purchases": 2}'::jsonb)$$,
  'The history has the amount that was left.'
);
select results_eq(
  $$select refunded, remaining from api.refund_drop(pg_temp.drop_id('over'))$$, $$values (1, 0::bigint)$$, 'So is a drop that is over,'
);
select is(pg_temp.purchases_on('over'), array['bob refunded', 'cat pending'], 'but what is pending there may still be paid.');
select is(pg_temp.tell_of('over', 'cat', 'paid'), 'applied paid', 'It is.');

-- A drop of a basket is cancelled: the basket is one payment, so the units of the other drop go back, too.

create temp table basket on commit drop as
select (b.basket).id
from api.reserve_basket(pg_temp.user_id('eve'), array[
  row(pg_temp.drop_id('shoes'), null, 1), row(pg_temp.drop_id('seed'), null, 2)]::api.basket_item[]) b;
select is((select count(*) from basket, api.purchase_basket(basket.id, pg_temp.user_id('eve'))), 2::bigint, 'A basket is bought.');
do $$ begin perform api.update_drop(pg_temp.drop_id('seed'), '{"status": "cancelled"}'); end $$;
select is(array[pg_temp.stock_of('seed'), pg_temp.stock_of('shoes')], array[9, 19], 'Both drops have their units again.');
select is_empty('select * from pg_temp.findings()', 'The books balance.');

-- What the provider refused, somebody has refunded there by hand.

do $$
begin
  perform pg_temp.make_drop('by hand', 4);
  perform pg_temp.buy_units('by hand', 'ann', 4);
  perform pg_temp.tell_of('by hand', 'ann', 'paid');
  update inventory.provider_calls set done_at = now();
  perform pg_temp.refund('by hand', 'ann', 1);
  perform pg_temp.refund('by hand', 'ann', 1);
  perform api.fail_provider_call(c.id, 'no', true)
  from inventory.provider_calls c
  where c.drop_id = pg_temp.drop_id('by hand') and c.action = 'refund';
end
$$;
select is((select gave_up from api.count_provider_calls()), 2::bigint, 'Two calls were given up.');
select is(pg_temp.tell_of('by hand', 'ann', 'refunded', 10), 'unchanged paid', 'Half of it is refunded there.');
select is((select gave_up from api.count_provider_calls()), 2::bigint, 'Nobody knows which call that was.');
do $$ begin perform pg_temp.tell_of('by hand', 'ann', 'refunded', 20); end $$;
select is((select gave_up from api.count_provider_calls()), 0::bigint, 'The rest of it ends both.');

select * from finish();
rollback;
