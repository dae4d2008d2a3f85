-- api.cancel_reservation gives the unit of one hold back: only to its own user's wish, and only while it is a hold.
begin;
select plan(20);

create function pg_temp.drop_id() returns uuid language sql stable as $$
  select d.id from inventory.drops d where d.created_by = pg_temp.user_id('seller')
$$;
create function pg_temp.stock() returns integer language sql stable as $$
  select d.available_stock from inventory.drops d where d.id = pg_temp.drop_id()
$$;

-- The reservations of each user, by his name.
create temp table held (name text primary key, id uuid not null) on commit drop;
create function pg_temp.held_by(p_name text) returns uuid language sql stable as $$
  select h.id from held h where h.name = p_name
$$;

do $$
begin
  perform api.ensure_user(pg_temp.user_id(name)) from unnest(array['seller', 'ann', 'bob', 'cat', 'dan', 'eve']) as name;
  perform api.create_drop('shoes', 10, 10, pg_temp.user_id('seller'), now() - interval '1 hour');
  insert into held
  select name, r.id
  from unnest(array['ann', 'bob', 'cat', 'dan', 'eve']) as name, api.reserve(pg_temp.drop_id(), pg_temp.user_id(name), 'key') r;
  update inventory.reservations set updated_at = now() - interval '1 day' where drop_id = pg_temp.drop_id();
  update inventory.drops set updated_at = now() - interval '1 day' where id = pg_temp.drop_id();
end
$$;

create temp table cancelled on commit drop as
select * from api.cancel_reservation(pg_temp.held_by('ann'), pg_temp.user_id('ann'));

select is(
  (select array_agg(key) from cancelled, json_object_keys(to_json(cancelled)) as key),
  array['id', 'drop_id', 'user_id', 'status', 'expires_at', 'createdAt', 'updatedAt'],
  'The row has the names of the wire.'
);
select results_eq(
  $$select * from cancelled$$,
  $$
    values (
      pg_temp.held_by('ann'), pg_temp.drop_id(), pg_temp.user_id('ann'), 'CANCELLED', now() + interval '1 minute', now(), now())
  $$,
  'The reservation comes back CANCELLED, changed now.'
);
select results_eq(
  $$
    select id, drop_id, user_id, status, expires_at, created_at, updated_at
    from inventory.reservations
    where id = pg_temp.held_by('ann')
  $$,
  $$select * from cancelled$$,
  'What comes back is what is stored.'
);
select is(pg_temp.stock(), 6, 'Its unit is back in stock.');
select is((select updated_at from inventory.drops where id = pg_temp.drop_id()), now(), 'The drop says that it changed.');
select is(
  (select count(*) from inventory.reservations where drop_id = pg_temp.drop_id() and status = 'ACTIVE'), 4::bigint,
  'Nobody else''s hold is touched.'
);
select is(
  (select status from api.reserve(pg_temp.drop_id(), pg_temp.user_id('ann'))), 'ACTIVE', 'Who cancelled may reserve again.'
);

-- Errors.

do $$
begin
  perform api.purchase(pg_temp.drop_id(), pg_temp.user_id('bob'));
  update inventory.reservations set expires_at = now() where id = pg_temp.held_by('cat');
  update inventory.reservations set expires_at = now() + interval '1 microsecond' where id = pg_temp.held_by('dan');
end
$$;

select throws_ok(
  format('select api.cancel_reservation(%L, %L)', v.reservation_id, v.user_id), v.sqlstate, v.code, v.description
)
from (values
  (pg_temp.held_by('ann'), pg_temp.user_id('ann'), 'PT409', 'RESERVATION_NOT_ACTIVE', 'A reservation is cancelled once.'),
  (pg_temp.held_by('bob'), pg_temp.user_id('bob'), 'PT409', 'RESERVATION_NOT_ACTIVE',
    'A reservation that was purchased cannot be cancelled.'),
  (pg_temp.held_by('cat'), pg_temp.user_id('cat'), 'PT409', 'RESERVATION_EXPIRED',
    'A hold that runs out at this moment has expired.'),
  (pg_temp.held_by('eve'), pg_temp.user_id('ann'), 'PT404', 'RESERVATION_NOT_FOUND', 'Another user''s reservation is not found.'),
  (pg_temp.held_by('bob'), pg_temp.user_id('ann'), 'PT404', 'RESERVATION_NOT_FOUND', 'Whether it is still a hold stays private.'),
  (gen_random_uuid(), pg_temp.user_id('ann'), 'PT404', 'RESERVATION_NOT_FOUND',
    'A reservation that does not exist is not found.'),
  (null, pg_temp.user_id('ann'), 'PT404', 'RESERVATION_NOT_FOUND', 'No reservation is not found.'),
  (pg_temp.held_by('eve'), pg_temp.user_id('nobody'), 'PT401', 'AUTH_REQUIRED', 'An unknown user is refused.'),
  (pg_temp.held_by('eve'), null, 'PT401', 'AUTH_REQUIRED', 'No user is refused.'),
  (gen_random_uuid(), pg_temp.user_id('nobody'), 'PT401', 'AUTH_REQUIRED', 'An unknown user learns nothing about reservations.')
) as v (reservation_id, user_id, sqlstate, code, description);
select is(
  pg_temp.refusal(format('select api.cancel_reservation(%L, %L)', pg_temp.held_by('ann'), pg_temp.user_id('ann'))),
  'PT409 RESERVATION_NOT_ACTIVE: This reservation is not ACTIVE any more: it was consumed, was cancelled or expired.',
  'The refusal says what may have become of it.'
);
select is(
  (select status from api.cancel_reservation(pg_temp.held_by('dan'), pg_temp.user_id('dan'))), 'CANCELLED',
  'A hold can be cancelled up to its last microsecond.'
);

select is_empty($$select * from api.audit() a where a.drop_id = pg_temp.drop_id()$$, 'No unit was lost or made up on the way.');

select * from finish();
rollback;
