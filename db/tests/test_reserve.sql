-- api.reserve holds one unit for one user: the row comes back or an error is raised, and a repeat of a key is the same hold.
begin;
select plan(52);

create function pg_temp.new_drop(
  p_name text, p_stock integer, p_starts_in interval default '-1 hour', p_ends_in interval default null,
  p_status text default null
)
returns void language sql as $$
  select api.create_drop(p_name, 10, p_stock, pg_temp.user_id('seller'), now() + p_starts_in, now() + p_ends_in, p_status)
$$;

do $$
begin
  perform api.ensure_user(pg_temp.user_id(name)) from unnest(array['seller', 'ann', 'bob', 'cat', 'dan']) as name;
  perform pg_temp.new_drop('shoes', 5);
  perform pg_temp.new_drop('tickets', 5);
  -- As of yesterday, so that a change shows.
  update inventory.drops set updated_at = now() - interval '1 day' where id = pg_temp.drop_id('shoes');
end
$$;

-- A hold.

create temp table held on commit drop as
select * from api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key-1', 90);

select is(
  (select array_agg(key) from held, json_object_keys(to_json(held)) as key),
  array['id', 'drop_id', 'user_id', 'status', 'expires_at', 'createdAt', 'updatedAt', 'replayed'],
  'The row has the names of the wire, and says whether it is a replay.'
);
select results_eq(
  $$select drop_id, user_id, status, expires_at, "createdAt", "updatedAt", replayed from held$$,
  $$
    values (
      pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'ACTIVE', now() + interval '90 seconds', now(), now(), false)
  $$,
  'One ACTIVE reservation comes back, which expires when asked.'
);
select results_eq(
  $$
    select r.id, r.drop_id, r.user_id, r.status, r.expires_at, r.created_at, r.updated_at, r.idempotency_key
    from inventory.reservations r
    where r.drop_id = pg_temp.drop_id('shoes')
  $$,
  $$select id, drop_id, user_id, status, expires_at, "createdAt", "updatedAt", 'key-1' from held$$,
  'What comes back is what is stored, beside the key.'
);
select is(pg_temp.stock_of('shoes'), 4, 'One unit leaves the stock.');
select is(
  (select updated_at from inventory.drops where id = pg_temp.drop_id('shoes')), now(), 'The drop says that it changed.'
);
select is(
  (select expires_at from api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('bob'))), now() + interval '60 seconds',
  'A hold lasts a minute unless told.'
);
select is(
  (select idempotency_key from inventory.reservations
    where drop_id = pg_temp.drop_id('shoes') and user_id = pg_temp.user_id('bob')),
  null, 'A reserve needs no key.'
);

-- Repeats.

create temp table replay on commit drop as
select * from api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key-1', 3600);

select results_eq(
  $$select id, expires_at, replayed from replay$$, $$select id, expires_at, true from held$$,
  'The same key gives the same hold, with its first end, and says that it is a replay.'
);
select is(pg_temp.stock_of('shoes'), 3, 'A replay takes no unit.');
select results_eq(
  $$select drop_id, replayed from api.reserve(pg_temp.drop_id('tickets'), pg_temp.user_id('ann'), 'key-1')$$,
  $$values (pg_temp.drop_id('tickets'), false)$$,
  'The same key on another drop is another hold.'
);
select results_eq(
  $$select user_id, replayed from api.reserve(pg_temp.drop_id('tickets'), pg_temp.user_id('bob'), 'key-1')$$,
  $$values (pg_temp.user_id('bob'), false)$$,
  'The same key of another user is another hold.'
);

do $$ begin perform api.cancel_reservation((select id from held), pg_temp.user_id('ann')); end $$;
select results_eq(
  $$select id, status, replayed from api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key-1')$$,
  $$select id, 'CANCELLED', true from held$$,
  'A replay shows the reservation as it is now, and holds nothing anew.'
);
select isnt(
  (select id from api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key-2')), (select id from held),
  'A new key after a cancel is a new hold.'
);

do $$ begin perform api.update_drop(pg_temp.drop_id('tickets'), '{"status": "ended"}'); end $$;
select is(
  (select replayed from api.reserve(pg_temp.drop_id('tickets'), pg_temp.user_id('ann'), 'key-1')), true,
  'A replay is answered even when the drop is over.'
);

-- When a drop is on sale.

do $$
begin
  perform pg_temp.new_drop(v.name, 5, v.starts_in, v.ends_in, v.status)
  from (values
    ('draft', interval '-1 hour', null::interval, 'draft'),
    ('scheduled', '1 microsecond', null, 'scheduled'),
    ('scheduled, started', '0', null, 'scheduled'),
    ('live, to end', '-1 hour', '1 microsecond', 'live'),
    ('live, ended', '-1 hour', '0', 'live'),
    ('ended', '-1 hour', null, 'live'),
    ('cancelled', '-1 hour', null, 'live')
  ) as v (name, starts_in, ends_in, status);
  perform api.update_drop(pg_temp.drop_id('ended'), '{"status": "ended", "ends_at": null}');
  perform api.update_drop(pg_temp.drop_id('cancelled'), '{"status": "cancelled"}');
end
$$;

select lives_ok(
  format('select api.reserve(pg_temp.drop_id(%L), pg_temp.user_id(''ann''))', v.name), v.description
)
from (values
  ('scheduled, started', 'A scheduled drop sells from the moment it starts.'),
  ('live, to end', 'A live drop sells up to its end.')
) as v (name, description);
select throws_ok(
  format('select api.reserve(pg_temp.drop_id(%L), pg_temp.user_id(''ann''))', v.name), 'PT409', 'DROP_NOT_ACTIVE', v.description
)
from (values
  ('draft', 'A draft does not sell, even when its start has passed.'),
  ('scheduled', 'A scheduled drop does not sell before its start.'),
  ('live, ended', 'A live drop does not sell from the moment it ends.'),
  ('ended', 'An ended drop does not sell.'),
  ('cancelled', 'A cancelled drop does not sell.')
) as v (name, description);

-- Errors.

do $$
begin
  perform pg_temp.new_drop('last pair', 1);
  perform api.reserve(pg_temp.drop_id('last pair'), pg_temp.user_id('bob'), 'mine');
end
$$;

select throws_ok(
  $$select api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('nobody'))$$, 'PT401', 'AUTH_REQUIRED',
  'An unknown user is refused.'
);
select throws_ok($$select api.reserve(pg_temp.drop_id('shoes'), null)$$, 'PT401', 'AUTH_REQUIRED', 'No user is refused.');
select throws_ok(
  $$select api.reserve(gen_random_uuid(), pg_temp.user_id('ann'))$$, 'PT404', 'DROP_NOT_FOUND', 'An unknown drop is refused.'
);
select throws_ok($$select api.reserve(null, pg_temp.user_id('ann'))$$, 'PT404', 'DROP_NOT_FOUND', 'No drop is refused.');
select throws_ok(
  $$select api.reserve(gen_random_uuid(), pg_temp.user_id('nobody'))$$, 'PT401', 'AUTH_REQUIRED',
  'An unknown user learns nothing about drops.'
);
select throws_ok(
  $$select api.reserve(pg_temp.drop_id('last pair'), pg_temp.user_id('cat'))$$, 'PT409', 'OUT_OF_STOCK',
  'A drop whose every unit is held is out of stock.'
);
select throws_ok(
  $$select api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'))$$, 'PT409', 'ALREADY_RESERVED',
  'A user who holds a unit is refused a second one.'
);
select throws_ok(
  $$select api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key-3')$$, 'PT409', 'ALREADY_RESERVED',
  'A new key does not give him a second one.'
);
select throws_ok(
  $$select api.reserve(pg_temp.drop_id('last pair'), pg_temp.user_id('bob'))$$, 'PT409', 'ALREADY_RESERVED',
  'Who holds the last unit is told that he holds it.'
);
select throws_ok(
  format('select api.reserve(pg_temp.drop_id(''shoes''), pg_temp.user_id(''cat''), null, %s)', v.ttl_seconds),
  'PT400', 'VALIDATION_ERROR', v.description
)
from (values
  ('0', 'A hold of no time is refused.'),
  ('-1', 'A hold that ends in the past is refused.'),
  ('86401', 'A hold of more than a day is refused.'),
  ('null', 'A hold without end is refused.')
) as v (ttl_seconds, description);
select throws_ok(
  format('select api.reserve(pg_temp.drop_id(''shoes''), pg_temp.user_id(''cat''), %L)', v.key),
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
  pg_temp.refusal(format(
    'select api.reserve(pg_temp.drop_id(%L), pg_temp.user_id(%L), %L, %s)', v.drop_name, v.user_name, v.key, v.ttl)),
  v.expected, v.description
)
from (values
  ('last pair', 'cat', null, '60',
    'PT409 OUT_OF_STOCK: Every unit of this drop is held or sold. A unit comes back when a hold expires or is cancelled.',
    'OUT_OF_STOCK explains when to try again.'),
  ('shoes', 'ann', null, '60',
    'PT409 ALREADY_RESERVED: You hold a unit of this drop already. Purchase or cancel that reservation first.',
    'ALREADY_RESERVED explains what to do.'),
  ('shoes', 'cat', 'a b', '60', 'PT400 VALIDATION_ERROR: Idempotency-Key: must be 1 to 255 visible ASCII characters',
    'A refused key names itself.'),
  ('shoes', 'cat', null, '0', 'PT400 VALIDATION_ERROR: p_ttl_seconds: must be between 1 and 86400',
    'A refused time names itself.')
) as v (drop_name, user_name, key, ttl, expected, description);

select is(
  (select expires_at from api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('cat'), repeat('~', 255), 1)),
  now() + interval '1 second', 'A hold may last a second, and a key may have 255 characters.'
);
select is(
  (select expires_at from api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('dan'), null, 86400)), now() + interval '1 day',
  'A hold may last a day.'
);

-- Holds that have run out are no obstacle.

update inventory.reservations set expires_at = now() where drop_id = pg_temp.drop_id('last pair');
create temp table next on commit drop as
select * from api.reserve(pg_temp.drop_id('last pair'), pg_temp.user_id('cat'));

select is((select status from next), 'ACTIVE', 'A hold that runs out at this moment gives its unit to who asks now.');
select results_eq(
  $$
    select user_id, status from inventory.reservations where drop_id = pg_temp.drop_id('last pair') order by status
  $$,
  $$values (pg_temp.user_id('cat'), 'ACTIVE'), (pg_temp.user_id('bob'), 'EXPIRED')$$,
  'The old hold is EXPIRED.'
);
select is(pg_temp.stock_of('last pair'), 0, 'The unit is not counted twice.');

update inventory.reservations
set expires_at = now() + interval '1 microsecond'
where drop_id = pg_temp.drop_id('last pair') and status = 'ACTIVE';
select throws_ok(
  $$select api.reserve(pg_temp.drop_id('last pair'), pg_temp.user_id('dan'))$$, 'PT409', 'OUT_OF_STOCK',
  'A hold is good up to its last microsecond.'
);

update inventory.reservations set expires_at = now() where id = (select id from next);
select results_eq(
  $$select id <> (select id from next), status, replayed from api.reserve(pg_temp.drop_id('last pair'), pg_temp.user_id('cat'))$$,
  $$values (true, 'ACTIVE', false)$$,
  'A user whose own hold has run out gets a new one.'
);
select is((select status from inventory.reservations where id = (select id from next)), 'EXPIRED', 'His old hold is EXPIRED.');

select is_empty(
  $$
    select a.* from api.audit() a join inventory.drops d on d.id = a.drop_id where d.created_by = pg_temp.user_id('seller')
  $$,
  'No unit was lost or made up on the way.'
);

select * from finish();
rollback;
