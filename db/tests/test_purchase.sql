-- api.purchase turns the unit a user holds into a sale: the row comes back or an error is raised, and no hold is sold twice.
begin;
select plan(31);

select pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan', 'eve');
select pg_temp.make_drop(name, 5) from unnest(array['shoes', 'tickets']) as name;

-- A sale.

create temp table held on commit drop as
select * from api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key-1');
update inventory.reservations set updated_at = now() - interval '1 day' where id = (select id from held);
create temp table sale on commit drop as
select * from api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key-1');

select results_eq(
  $$select drop_id, reservation_id, user_id, qty, status, "createdAt", "updatedAt", replayed from sale$$,
  $$select drop_id, id, user_id, 1, 'paid', now(), now(), false from held$$,
  'One paid purchase of one unit comes back; a reserve''s key is not a purchase''s.'
);
select results_eq(
  'select s.*, p.idempotency_key from pg_temp.stored_purchases() s join inventory.purchases p on p.id = s.id',
  $$
    select
      id, drop_id, variant_id, reservation_id, user_id, qty, unit_price, currency, amount, status, refunded_amount, refunded_at,
      "createdAt", "updatedAt", refunded_qty, payment_id, 'key-1'
    from sale
  $$,
  'What comes back is what is stored, beside the key.'
);
select results_eq(
  'select * from pg_temp.stored_reservations()',
  $$
    select
      id, drop_id, variant_id, user_id, basket_id, qty, unit_price, currency, amount, 'CONSUMED', expires_at, extended_at,
      "createdAt", now()
    from held
  $$,
  'The reservation is CONSUMED now.'
);
select is(pg_temp.stock_of('shoes'), 4, 'The stock was taken by the reserve and is not taken again.');
select pg_temp.hold('shoes', 'bob');
select results_eq(
  $$select user_id, replayed from api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('bob'))$$,
  $$values (pg_temp.user_id('bob'), false)$$, 'A purchase needs no key.'
);
select is(
  (select idempotency_key from inventory.purchases where id = pg_temp.purchase_id('shoes', 'bob')), null, 'Then none is stored.'
);

-- Repeats.

select results_eq(
  $$select id, reservation_id, status, replayed from api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key-1')$$,
  $$select id, reservation_id, 'paid', true from sale$$,
  'The same key gives the same purchase and says that it is a replay.'
);
do $$
begin
  perform pg_temp.hold('shoes', 'ann');
  perform api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key-1');
end
$$;
select is(
  pg_temp.statuses_on('shoes'), array['ann ACTIVE', 'ann CONSUMED', 'bob CONSUMED'],
  'A replay does not consume what the user holds since.'
);
do $$ begin perform api.refund_purchase((select id from sale)); end $$;
select results_eq(
  $$select id, status, replayed from api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key-1')$$,
  $$select id, 'refunded', true from sale$$,
  'A replay shows the purchase as it is now.'
);
select results_eq(
  $$select id <> (select id from sale), reservation_id <> (select id from held), replayed
    from api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key-2')$$,
  $$values (true, true, false)$$,
  'A new key sells the new hold.'
);
select pg_temp.hold('tickets', 'ann', 'bob');
select results_eq(
  format('select drop_id, user_id, replayed from api.purchase(pg_temp.drop_id(''tickets''), %L, ''key-1'')', v.id),
  format('values (pg_temp.drop_id(''tickets''), %L::uuid, false)', v.id), v.description
)
from (values
  (pg_temp.user_id('ann'), 'The same key on another drop is another purchase.'),
  (pg_temp.user_id('bob'), 'The same key of another user is another purchase.')
) as v (id, description);

-- Errors. Cat's hold on the shoes is cancelled; dan holds a ticket.

do $$
begin
  perform pg_temp.hold('shoes', 'cat');
  perform api.cancel_reservation(pg_temp.hold_id('shoes', 'cat'), pg_temp.user_id('cat'));
  perform pg_temp.hold('tickets', 'dan');
end
$$;
select is(
  pg_temp.refusal(format(
    'select api.purchase(%L, %L, %L)', pg_temp.drop_id(v.drop_name), pg_temp.user_id(v.user_name), v.key)),
  pg_temp.error(v.code, v.sentence), v.description
)
from (values
  ('shoes', 'nobody', null, 'AUTH_REQUIRED', null, 'An unknown user is refused.'),
  ('shoes', null, null, 'AUTH_REQUIRED', null, 'A null user is refused.'),
  ('none', 'ann', null, 'DROP_NOT_FOUND', null, 'A null drop is refused.'),
  ('none', 'nobody', null, 'AUTH_REQUIRED', null, 'An unknown user learns nothing about drops.'),
  ('shoes', 'eve', null, 'NO_ACTIVE_RESERVATION', null, 'A user who holds nothing can purchase nothing.'),
  ('shoes', 'bob', null, 'NO_ACTIVE_RESERVATION', null, 'A hold is sold once.'),
  ('tickets', 'ann', 'key-3', 'NO_ACTIVE_RESERVATION', null, 'A new key does not sell it again.'),
  ('shoes', 'cat', null, 'NO_ACTIVE_RESERVATION', null, 'A hold that was cancelled is no hold.'),
  ('shoes', 'dan', null, 'NO_ACTIVE_RESERVATION', null, 'A hold on one drop purchases nothing of another.'),
  ('tickets', 'dan', '', 'VALIDATION_ERROR', 'Idempotency-Key: must be 1 to 255 visible ASCII characters',
    'An empty key is refused; test_reserve.sql tries the others.'),
  ('tickets', 'dan', repeat('k', 256), 'VALIDATION_ERROR', 'Idempotency-Key: must be 1 to 255 visible ASCII characters',
    'A key of 256 characters is refused.')
) as v (drop_name, user_name, key, code, sentence, description);
select is(
  pg_temp.refusal(format('select api.purchase(gen_random_uuid(), %L)', pg_temp.user_id('ann'))), pg_temp.error('DROP_NOT_FOUND'),
  'An unknown drop is refused.'
);
select is(
  (select status from api.purchase(pg_temp.drop_id('tickets'), pg_temp.user_id('dan'), repeat('~', 255))), 'paid',
  'A key may have 255 characters.'
);

-- The end of a hold, and of a drop.

select pg_temp.hold('shoes', 'cat', 'dan');
select pg_temp.let_run_out('shoes', 'cat');
select pg_temp.let_run_out('shoes', 'dan', now() + interval '1 microsecond');
select is(
  pg_temp.refusal($$select api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('cat'))$$),
  pg_temp.error('RESERVATION_EXPIRED'), 'A hold that runs out at this moment is not sold.'
);
select is(
  (select status from api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('dan'))), 'paid',
  'A hold is sold up to its last microsecond.'
);
do $$ begin perform api.expire_reservations(1000000); end $$;
select is(
  pg_temp.refusal($$select api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('cat'))$$),
  pg_temp.error('RESERVATION_EXPIRED'), 'After the sweep the answer is the same, however late.'
);
do $$
begin
  perform pg_temp.hold(name, 'eve') from unnest(array['shoes', 'tickets']) as name;
  perform api.update_drop(pg_temp.drop_id('shoes'), '{"status": "ended"}');
  perform api.update_drop(pg_temp.drop_id('tickets'), '{"status": "cancelled"}');
end
$$;
select is(
  (select status from api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('eve'))), 'paid',
  'A user who holds a unit when the drop ends can purchase it.'
);
select is(
  pg_temp.refusal($$select api.purchase(pg_temp.drop_id('tickets'), pg_temp.user_id('eve'))$$),
  pg_temp.error('DROP_NOT_ACTIVE'), 'A user who held a unit when the drop was cancelled cannot, and is told why.'
);
select is_empty('select * from pg_temp.findings()', 'No unit was lost or made up on the way.');

select * from finish();
rollback;
