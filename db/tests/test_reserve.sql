-- api.reserve holds one unit for one user: the row comes back or an error is raised, and a repeat of a key is the same hold.
-- test_reserve_due_holds.sql proves that holds that have run out are no obstacle.
begin;
select plan(39);

select pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan');
select pg_temp.make_drop(name, 5) from unnest(array['shoes', 'tickets']) as name;
select pg_temp.age_drops();

-- A hold.

create temp table held on commit drop as
select * from api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key-1', 90);

select results_eq(
  $$select drop_id, user_id, status, expires_at, "createdAt", "updatedAt", replayed from held$$,
  $$
    values (
      pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'ACTIVE', now() + interval '90 seconds', now(), now(), false)
  $$,
  'One ACTIVE reservation comes back, which expires when asked.'
);
select results_eq(
  'select s.*, r.idempotency_key from pg_temp.stored_reservations() s join inventory.reservations r on r.id = s.id',
  $$
    select
      id, drop_id, variant_id, user_id, basket_id, qty, unit_price, currency, amount, status, expires_at, extended_at,
      "createdAt", "updatedAt", 'key-1'
    from held
  $$,
  'What comes back is what is stored, beside the key.'
);
select results_eq(
  $$select available_stock, "updatedAt" from pg_temp.stored_drops() where name = 'shoes'$$, 'values (4, now())',
  'One unit leaves the stock, and the drop says that it changed.'
);
select pg_temp.hold('shoes', 'bob');
select results_eq(
  $$select expires_at, idempotency_key from inventory.reservations where id = pg_temp.hold_id('shoes', 'bob')$$,
  $$values (now() + interval '60 seconds', null::text)$$,
  'A hold lasts a minute unless told, and a reserve needs no key.'
);

-- Repeats.

select results_eq(
  $$select id, expires_at, replayed from api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key-1', 3600)$$,
  $$select id, expires_at, true from held$$,
  'The same key gives the same hold, with its first end, and says that it is a replay.'
);
select is(pg_temp.stock_of('shoes'), 3, 'A replay takes no unit.');
select results_eq(
  format('select drop_id, user_id, replayed from api.reserve(pg_temp.drop_id(''tickets''), %L, ''key-1'')', v.id),
  format('values (pg_temp.drop_id(''tickets''), %L::uuid, false)', v.id), v.description
)
from (values
  (pg_temp.user_id('ann'), 'The same key on another drop is another hold.'),
  (pg_temp.user_id('bob'), 'The same key of another user is another hold.')
) as v (id, description);

do $$ begin perform api.cancel_reservation((select id from held), pg_temp.user_id('ann')); end $$;
select results_eq(
  $$select id, status, replayed from api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key-1')$$,
  $$select id, 'CANCELLED', true from held$$,
  'A replay shows the reservation as it is now, and holds nothing anew.'
);
select results_eq(
  $$select id <> (select id from held), replayed from api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key-2')$$,
  'values (true, false)', 'A new key after a cancel is a new hold.'
);
do $$ begin perform api.update_drop(pg_temp.drop_id('tickets'), '{"status": "ended"}'); end $$;
select is(
  (select replayed from api.reserve(pg_temp.drop_id('tickets'), pg_temp.user_id('ann'), 'key-1')), true,
  'A replay is answered even when the drop is over.'
);

-- When a drop is on sale, and other errors.

do $$
begin
  perform pg_temp.make_drop(v.name, 5, v.starts_in, v.ends_in, v.status)
  from (values
    ('draft', interval '-1 hour', null::interval, 'draft'),
    ('scheduled', '1 microsecond', null, 'scheduled'),
    ('scheduled, started', '0', null, 'scheduled'),
    ('live, to end', '-1 hour', '1 microsecond', 'live'),
    ('live, ended', '-1 hour', '0', 'live'),
    ('ended', '-1 hour', '1 hour', 'ended'),
    ('cancelled', '-1 hour', null, 'cancelled')
  ) as v (name, starts_in, ends_in, status);
  perform pg_temp.make_drop('last pair', 1);
  perform pg_temp.hold('last pair', 'bob');
end
$$;

select is(
  pg_temp.refusal(format(
    'select api.reserve(%L, %L, %s)', pg_temp.drop_id(v.drop_name), pg_temp.user_id(v.user_name), coalesce(v.options, 'null'))),
  coalesce(pg_temp.error(v.code, v.sentence), 'nothing was raised'), v.description
)
from (values
  ('scheduled, started', 'ann', null, null, null, 'A scheduled drop sells from the moment it starts.'),
  ('live, to end', 'ann', null, null, null, 'A live drop sells up to its end.'),
  ('draft', 'ann', null, 'DROP_NOT_ACTIVE', null, 'A draft does not sell, even when its start has passed.'),
  ('scheduled', 'ann', null, 'DROP_NOT_ACTIVE', null, 'A scheduled drop does not sell before its start.'),
  ('live, ended', 'ann', null, 'DROP_NOT_ACTIVE', null, 'A live drop does not sell from the moment it ends.'),
  ('ended', 'ann', null, 'DROP_NOT_ACTIVE', null, 'An ended drop does not sell.'),
  ('cancelled', 'ann', null, 'DROP_NOT_ACTIVE', null, 'A cancelled drop does not sell.'),
  ('shoes', 'nobody', null, 'AUTH_REQUIRED', null, 'An unknown user is refused.'),
  ('shoes', null, null, 'AUTH_REQUIRED', null, 'A null user is refused.'),
  ('none', 'ann', null, 'DROP_NOT_FOUND', null, 'A null drop is refused.'),
  ('none', 'nobody', null, 'AUTH_REQUIRED', null, 'An unknown user learns nothing about drops.'),
  ('last pair', 'cat', null, 'OUT_OF_STOCK', null, 'A drop whose every unit is held is out of stock.'),
  ('shoes', 'ann', null, 'ALREADY_RESERVED', null, 'A user who holds a unit is refused a second one.'),
  ('shoes', 'ann', '''key-3''', 'ALREADY_RESERVED', null, 'A new key does not give a second one.'),
  ('last pair', 'bob', null, 'ALREADY_RESERVED', null, 'The user who holds the last unit is told so.'),
  ('shoes', 'cat', 'null, 0', 'VALIDATION_ERROR', 'p_ttl_seconds: must be between 1 and 86400', 'A hold of no time is refused.'),
  ('shoes', 'cat', 'null, -1', 'VALIDATION_ERROR', 'p_ttl_seconds: must be between 1 and 86400',
    'A hold that ends in the past is refused.'),
  ('shoes', 'cat', 'null, 86401', 'VALIDATION_ERROR', 'p_ttl_seconds: must be between 1 and 86400',
    'A hold of more than a day is refused.'),
  ('shoes', 'cat', 'null, null', 'VALIDATION_ERROR', 'p_ttl_seconds: must be between 1 and 86400',
    'A hold without end is refused.')
) as v (drop_name, user_name, options, code, sentence, description);
select is(
  pg_temp.refusal(format('select api.reserve(%L, pg_temp.user_id(''cat''), %L)', pg_temp.drop_id('shoes'), v.key)),
  pg_temp.error('VALIDATION_ERROR', 'Idempotency-Key: must be 1 to 255 visible ASCII characters'), v.description
)
from (values
  ('', 'An empty key is refused.'), ('a b', 'A key with a space is refused.'),
  (E'a\n', 'A key with a line feed is refused.'), ('ключ', 'A key beyond ASCII is refused.'),
  (repeat('k', 256), 'A key of 256 characters is refused.')
) as v (key, description);
select is(
  pg_temp.refusal(format('select api.reserve(gen_random_uuid(), %L)', pg_temp.user_id('ann'))), pg_temp.error('DROP_NOT_FOUND'),
  'An unknown drop is refused.'
);

select results_eq(
  format('select expires_at from api.reserve(pg_temp.drop_id(''shoes''), pg_temp.user_id(%L), %L, %s)', v.name, v.key, v.seconds),
  format('values (now() + interval ''%s seconds'')', v.seconds), v.description
)
from (values
  ('cat', repeat('~', 255), 1, 'A hold may last a second, and a key may have 255 characters.'),
  ('dan', null, 86400, 'A hold may last a day.')
) as v (name, key, seconds, description);
select is_empty('select * from pg_temp.findings()', 'No unit was lost or made up on the way.');

select * from finish();
rollback;
