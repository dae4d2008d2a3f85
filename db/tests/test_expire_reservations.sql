-- api.expire_reservations, the sweep, gives back what is due and nothing else, so a unit nobody pays for returns to the others.
begin;
select plan(24);

-- Let holds run out; other tests' holds in the same database are not as old as those of the year 2000.
create function pg_temp.run_out(p_drop text, p_user text, p_expires_at timestamptz) returns void language sql as $$
  update inventory.reservations r
  set expires_at = p_expires_at, updated_at = now() - interval '1 day'
  where r.drop_id = pg_temp.drop_id(p_drop) and r.user_id = pg_temp.user_id(p_user) and r.status = 'ACTIVE'
$$;

-- The sweep, as far as it concerns the drops here: what it gives back as "user drop".
create function pg_temp.sweep(p_limit integer) returns text[] language sql as $$
  select array_agg(u.name || ' ' || d.name order by u.name, d.name)
  from api.expire_reservations(p_limit) e
  join inventory.drops d on d.id = e.drop_id and d.created_by = pg_temp.user_id('seller')
  join unnest(array['ann', 'bob', 'cat', 'dan']) as u (name) on pg_temp.user_id(u.name) = e.user_id
$$;

do $$
begin
  perform api.ensure_user(pg_temp.user_id(name)) from unnest(array['seller', 'ann', 'bob', 'cat', 'dan']) as name;
  perform api.create_drop(name, 10, 10, pg_temp.user_id('seller'), now() - interval '1 hour')
  from unnest(array['shoes', 'tickets', 'quiet', 'over', 'many']) as name;
  perform api.reserve(pg_temp.drop_id(drop_name), pg_temp.user_id(user_name))
  from unnest(array['shoes', 'tickets', 'quiet']) as drop_name, unnest(array['ann', 'bob', 'cat', 'dan']) as user_name;
end
$$;

select is(pg_temp.sweep(1000000), null, 'When nothing is due nothing is expired.');
select is(pg_temp.stock_of('shoes'), 6, 'Then no stock moves.');

do $$
begin
  perform pg_temp.run_out('shoes', 'ann', now());
  perform pg_temp.run_out('shoes', 'bob', now() + interval '1 microsecond');
  perform pg_temp.run_out('shoes', 'cat', now() - interval '1 hour');
  perform pg_temp.run_out('tickets', 'bob', now() - interval '1 second');
  perform pg_temp.run_out('tickets', 'ann', '2000-01-01');
  perform pg_temp.run_out('tickets', 'cat', '2000-01-01');
  perform api.purchase(pg_temp.drop_id('tickets'), pg_temp.user_id('dan'));
  update inventory.drops set updated_at = now() - interval '1 day' where created_by = pg_temp.user_id('seller');
  -- Not holds any more, though their time has passed.
  update inventory.reservations
  set status = case user_id when pg_temp.user_id('ann') then 'CANCELLED' else 'CONSUMED' end, expires_at = '2000-01-01',
    updated_at = now() - interval '1 day'
  where drop_id = pg_temp.drop_id('tickets') and user_id in (pg_temp.user_id('ann'), pg_temp.user_id('dan'));
  update inventory.drops set available_stock = available_stock + 1 where id = pg_temp.drop_id('tickets');
end
$$;
create temp table expired on commit drop as
select * from api.expire_reservations(1000000)
where drop_id in (select id from inventory.drops where created_by = pg_temp.user_id('seller'));

select is(
  (select array_agg(key) from (select * from expired limit 1) e, json_object_keys(to_json(e)) as key),
  array['id', 'drop_id', 'user_id', 'status', 'expires_at', 'createdAt', 'updatedAt'],
  'The row has the names of the wire.'
);
select bag_eq(
  $$select drop_id, user_id, status, expires_at, "createdAt", "updatedAt" from expired$$,
  $$
    values
      (pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'EXPIRED', now(), now(), now()),
      (pg_temp.drop_id('shoes'), pg_temp.user_id('cat'), 'EXPIRED', now() - interval '1 hour', now(), now()),
      (pg_temp.drop_id('tickets'), pg_temp.user_id('bob'), 'EXPIRED', now() - interval '1 second', now(), now()),
      (pg_temp.drop_id('tickets'), pg_temp.user_id('cat'), 'EXPIRED', timestamptz '2000-01-01', now(), now())
  $$,
  'What is due at this moment or was before, on all drops, comes back EXPIRED now; what has a microsecond left does not.'
);
select results_eq(
  $$
    select id, drop_id, user_id, status, expires_at, created_at, updated_at
    from inventory.reservations
    where id in (select id from expired)
    order by id
  $$,
  $$select * from expired order by id$$,
  'What comes back is what is stored.'
);
select is(
  (select count(*) from inventory.reservations r join inventory.drops d on d.id = r.drop_id
    where d.created_by = pg_temp.user_id('seller') and r.status = 'EXPIRED'),
  4::bigint, 'Nothing else is expired.'
);
select bag_eq(
  $$
    select r.user_id, r.status
    from inventory.reservations r
    where r.drop_id = pg_temp.drop_id('tickets') and r.user_id in (pg_temp.user_id('ann'), pg_temp.user_id('dan'))
  $$,
  $$values (pg_temp.user_id('ann'), 'CANCELLED'), (pg_temp.user_id('dan'), 'CONSUMED')$$,
  'What is CANCELLED or CONSUMED stays so.'
);
select is(
  array[pg_temp.stock_of('shoes'), pg_temp.stock_of('tickets'), pg_temp.stock_of('quiet')], array[8, 9, 6],
  'Each drop has the units back that were held of it.'
);
select results_eq(
  $$select name, updated_at from inventory.drops where id in (pg_temp.drop_id('shoes'), pg_temp.drop_id('quiet')) order by name$$,
  $$values ('quiet', now() - interval '1 day'), ('shoes', now())$$,
  'A drop says that it changed only when it did.'
);
select is(pg_temp.sweep(1000000), null, 'A second sweep finds nothing more.');
select is(array[pg_temp.stock_of('shoes'), pg_temp.stock_of('tickets')], array[8, 9], 'And gives nothing back twice.');
select is(
  (select status from api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'))), 'ACTIVE',
  'Whose hold expired may reserve again.'
);

-- The limit.

do $$
begin
  perform pg_temp.run_out('quiet', name, '2000-01-01'::timestamptz + ago)
  from (values ('ann', interval '3 hours'), ('bob', '1 hour'), ('cat', '2 hours')) as v (name, ago);
end
$$;
select is(
  pg_temp.refusal(format('select api.expire_reservations(%s)', p_limit)),
  'PT400 VALIDATION_ERROR: p_limit: must be 1 or more', format('A sweep of at most %s is refused.', p_limit)
)
from unnest(array['0', '-1', 'null']) as p_limit;
select is(pg_temp.sweep(2), array['bob quiet', 'cat quiet'], 'A sweep stops at its limit and takes the oldest first.');
select is(pg_temp.stock_of('quiet'), 8, 'It gives back as many units as it expired.');
select is(pg_temp.sweep(2), array['ann quiet'], 'The next one takes the rest.');

do $$
begin
  perform pg_temp.run_out('quiet', 'dan', '2000-01-01 03:00+00');
  perform pg_temp.run_out('shoes', 'dan', '2000-01-01 01:00+00');
  perform pg_temp.run_out('shoes', 'bob', '2000-01-01 04:00+00');
end
$$;
select is(pg_temp.sweep(2), array['dan quiet', 'dan shoes'], 'The limit counts reservations over all drops.');
select is(
  (select count(*) from api.expire_reservations() e where e.drop_id = pg_temp.drop_id('shoes')), 1::bigint,
  'Without a limit there is a sensible one.'
);

-- A drop's own state is no obstacle.

do $$
begin
  perform api.reserve(pg_temp.drop_id('over'), pg_temp.user_id('ann'));
  perform api.update_drop(pg_temp.drop_id('over'), '{"status": "ended"}');
  perform pg_temp.run_out('over', 'ann', now());
end
$$;
select is(pg_temp.sweep(1000000), array['ann over'], 'A hold on a drop that has ended expires, too.');
select is(pg_temp.stock_of('over'), 10, 'Its unit goes back to the drop.');

create temp table crowd on commit drop as select pg_temp.user_id('crowd ' || n) as user_id from generate_series(1, 200) as n;
do $$
begin
  perform api.ensure_user(user_id) from crowd;
  perform api.update_drop(pg_temp.drop_id('many'), '{"total_stock": 200}');
  perform api.reserve_batch(pg_temp.drop_id('many'), array(select user_id from crowd), null);
  update inventory.reservations set expires_at = '2000-01-01' where drop_id = pg_temp.drop_id('many');
  perform api.expire_reservations(150);
end
$$;
select is(pg_temp.stock_of('many'), 150, 'Many holds of one drop are given back at once.');

select is_empty(
  $$
    select a.* from api.audit() a join inventory.drops d on d.id = a.drop_id
    where d.created_by = pg_temp.user_id('seller')
  $$,
  'No unit was lost or made up on the way.'
);

select * from finish();
rollback;
