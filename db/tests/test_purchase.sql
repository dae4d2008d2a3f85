-- api.purchase turns the unit a user holds into a sale: the row comes back or an error is raised, and no hold is sold twice.
begin;
select plan(40);

do $$
begin
  perform api.ensure_user(pg_temp.user_id(name)) from unnest(array['seller', 'ann', 'bob', 'cat', 'dan', 'eve']) as name;
  perform api.create_drop(name, 10, 5, pg_temp.user_id('seller'), now() - interval '1 hour')
  from unnest(array['shoes', 'tickets']) as name;
end
$$;

-- A sale.

create temp table held on commit drop as
select * from api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key-1');
-- As of yesterday, so that a change shows.
update inventory.reservations set updated_at = now() - interval '1 day' where id = (select id from held);
create temp table sale on commit drop as
select * from api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key-1');

select is(
  (select array_agg(key) from sale, json_object_keys(to_json(sale)) as key),
  array['id', 'drop_id', 'reservation_id', 'user_id', 'qty', 'status', 'createdAt', 'updatedAt', 'replayed'],
  'The row has the names of the wire, and says whether it is a replay.'
);
select results_eq(
  $$select drop_id, reservation_id, user_id, qty, status, "createdAt", "updatedAt", replayed from sale$$,
  $$select drop_id, id, user_id, 1, 'paid', now(), now(), false from held$$,
  'One paid purchase of one unit comes back; a reserve''s key is not a purchase''s.'
);
select results_eq(
  $$
    select p.id, p.drop_id, p.reservation_id, p.user_id, p.qty, p.status, p.created_at, p.updated_at, p.idempotency_key
    from inventory.purchases p
    where p.drop_id = pg_temp.drop_id('shoes')
  $$,
  $$select id, drop_id, reservation_id, user_id, qty, status, "createdAt", "updatedAt", 'key-1' from sale$$,
  'What comes back is what is stored, beside the key.'
);
select results_eq(
  $$select status, updated_at, expires_at from inventory.reservations where id = (select id from held)$$,
  $$select 'CONSUMED', now(), expires_at from held$$,
  'The reservation is CONSUMED now.'
);
select is(pg_temp.stock_of('shoes'), 4, 'The stock was taken by the reserve and is not taken again.');

do $$ begin perform api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('bob')); end $$;
select results_eq(
  $$select user_id, replayed from api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('bob'))$$,
  $$values (pg_temp.user_id('bob'), false)$$,
  'A purchase needs no key.'
);
select is(
  (select idempotency_key from inventory.purchases where drop_id = pg_temp.drop_id('shoes') and user_id = pg_temp.user_id('bob')),
  null,
  'Then none is stored.'
);

-- Repeats.

select results_eq(
  $$select id, reservation_id, status, replayed from api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key-1')$$,
  $$select id, reservation_id, 'paid', true from sale$$,
  'The same key gives the same purchase and says that it is a replay.'
);
do $$
begin
  perform api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'));
  perform api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key-1');
end
$$;
select is(
  (select array_agg(drop_id) from api.my_reservations(pg_temp.user_id('ann'))), array[pg_temp.drop_id('shoes')],
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
do $$
begin
  perform api.reserve(pg_temp.drop_id('tickets'), pg_temp.user_id(name)) from unnest(array['ann', 'bob']) as name;
end
$$;
select results_eq(
  $$select drop_id, replayed from api.purchase(pg_temp.drop_id('tickets'), pg_temp.user_id('ann'), 'key-1')$$,
  $$values (pg_temp.drop_id('tickets'), false)$$,
  'The same key on another drop is another purchase.'
);
select results_eq(
  $$select user_id, replayed from api.purchase(pg_temp.drop_id('tickets'), pg_temp.user_id('bob'), 'key-1')$$,
  $$values (pg_temp.user_id('bob'), false)$$,
  'The same key of another user is another purchase.'
);

-- Errors.

select throws_ok(
  $$select api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('nobody'))$$, 'PT401', 'AUTH_REQUIRED',
  'An unknown user is refused.'
);
select throws_ok($$select api.purchase(pg_temp.drop_id('shoes'), null)$$, 'PT401', 'AUTH_REQUIRED', 'No user is refused.');
select throws_ok(
  $$select api.purchase(gen_random_uuid(), pg_temp.user_id('ann'))$$, 'PT404', 'DROP_NOT_FOUND', 'An unknown drop is refused.'
);
select throws_ok($$select api.purchase(null, pg_temp.user_id('ann'))$$, 'PT404', 'DROP_NOT_FOUND', 'No drop is refused.');
select throws_ok(
  $$select api.purchase(gen_random_uuid(), pg_temp.user_id('nobody'))$$, 'PT401', 'AUTH_REQUIRED',
  'An unknown user learns nothing about drops.'
);
select throws_ok(
  $$select api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('cat'))$$, 'PT409', 'NO_ACTIVE_RESERVATION',
  'Who holds nothing can purchase nothing.'
);
select throws_ok(
  $$select api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('bob'))$$, 'PT409', 'NO_ACTIVE_RESERVATION',
  'A hold is sold once.'
);
select throws_ok(
  $$select api.purchase(pg_temp.drop_id('tickets'), pg_temp.user_id('ann'), 'key-3')$$, 'PT409', 'NO_ACTIVE_RESERVATION',
  'A new key does not sell it again.'
);
do $$
begin
  perform api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('cat'));
  perform api.cancel_reservation((select id from api.my_reservations(pg_temp.user_id('cat'))), pg_temp.user_id('cat'));
  perform api.reserve(pg_temp.drop_id('tickets'), pg_temp.user_id('dan'));
end
$$;
select throws_ok(
  $$select api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('cat'))$$, 'PT409', 'NO_ACTIVE_RESERVATION',
  'A hold that was cancelled is no hold.'
);
select throws_ok(
  $$select api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('dan'))$$, 'PT409', 'NO_ACTIVE_RESERVATION',
  'A hold on one drop purchases nothing of another.'
);
select throws_ok(
  format('select api.purchase(pg_temp.drop_id(''tickets''), pg_temp.user_id(''dan''), %L)', v.key),
  'PT400', 'VALIDATION_ERROR', v.description
)
from (values
  ('', 'An empty key is refused.'),
  ('a b', 'A key with a space is refused.'),
  (E'a\n', 'A key with a line feed is refused.'),
  ('ключ', 'A key beyond ASCII is refused.'),
  (repeat('k', 256), 'A key of 256 characters is refused.')
) as v (key, description);
select is(
  pg_temp.refusal(format('select api.purchase(pg_temp.drop_id(%L), pg_temp.user_id(%L), %L)', v.drop_name, v.user_name, v.key)),
  v.expected, v.description
)
from (values
  ('shoes', 'cat', null, 'PT409 NO_ACTIVE_RESERVATION: You hold no unit of this drop. Reserve one first.',
    'NO_ACTIVE_RESERVATION explains what to do.'),
  ('shoes', 'nobody', null, 'PT401 AUTH_REQUIRED: No user has this id. Identify yourself as an existing user.',
    'AUTH_REQUIRED explains what to do.'),
  ('nothing', 'cat', null, 'PT404 DROP_NOT_FOUND: There is no drop with this id.', 'DROP_NOT_FOUND explains what is wrong.'),
  ('tickets', 'dan', 'a b', 'PT400 VALIDATION_ERROR: Idempotency-Key: must be 1 to 255 visible ASCII characters',
    'A refused key names itself.')
) as v (drop_name, user_name, key, expected, description);
select is(
  (select status from api.purchase(pg_temp.drop_id('tickets'), pg_temp.user_id('dan'), repeat('~', 255))), 'paid',
  'A key may have 255 characters.'
);

-- The end of a hold, and of a drop.

do $$
begin
  perform api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id(name)) from unnest(array['cat', 'dan']) as name;
  update inventory.reservations set expires_at = now()
  where drop_id = pg_temp.drop_id('shoes') and user_id = pg_temp.user_id('cat') and status = 'ACTIVE';
  update inventory.reservations set expires_at = now() + interval '1 microsecond'
  where drop_id = pg_temp.drop_id('shoes') and user_id = pg_temp.user_id('dan') and status = 'ACTIVE';
end
$$;
select throws_ok(
  $$select api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('cat'))$$, 'PT409', 'RESERVATION_EXPIRED',
  'A hold that runs out at this moment is not sold.'
);
select is(
  pg_temp.refusal($$select api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('cat'))$$),
  'PT409 RESERVATION_EXPIRED: Your reservation ran out and its unit went back to stock. Reserve again.',
  'RESERVATION_EXPIRED explains what to do.'
);
select is(
  (select status from api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('dan'))), 'paid',
  'A hold is sold up to its last microsecond.'
);
do $$ begin perform api.expire_reservations(1000000); end $$;
select throws_ok(
  $$select api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('cat'))$$, 'PT409', 'NO_ACTIVE_RESERVATION',
  'Once the sweep has been by, a hold that ran out is no hold.'
);

do $$
begin
  perform api.reserve(pg_temp.drop_id(name), pg_temp.user_id('eve')) from unnest(array['shoes', 'tickets']) as name;
  perform api.update_drop(pg_temp.drop_id('shoes'), '{"status": "ended"}');
  perform api.update_drop(pg_temp.drop_id('tickets'), '{"status": "cancelled"}');
end
$$;
select is(
  (select status from api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('eve'))), 'paid',
  'Who holds a unit when the drop ends can have it.'
);
select throws_ok(
  $$select api.purchase(pg_temp.drop_id('tickets'), pg_temp.user_id('eve'))$$, 'PT409', 'NO_ACTIVE_RESERVATION',
  'Who held a unit when the drop was cancelled cannot.'
);

select is_empty(
  $$
    select a.* from api.audit() a join inventory.drops d on d.id = a.drop_id where d.created_by = pg_temp.user_id('seller')
  $$,
  'No unit was lost or made up on the way.'
);

select * from finish();
rollback;
