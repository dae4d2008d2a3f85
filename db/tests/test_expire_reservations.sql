-- api.expire_reservations, the sweep, gives back what is due and nothing else, so an unpaid unit returns to the other buyers.
begin;
select plan(20);

-- The sweep, as far as it concerns the drops here: what it gives back as "user drop". Holds that must come before those of other
-- tests in the same database run out in the year 2000.
create function pg_temp.sweep(p_limit integer) returns text[] language sql as $$
  select array_agg(substr(u.username, 7) || ' ' || d.name order by u.username, d.name)
  from api.expire_reservations(p_limit) e
  join inventory.drops d on d.id = e.drop_id and d.created_by = pg_temp.user_id('seller')
  join inventory.users u on u.id = e.user_id
$$;

select pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan');
select pg_temp.make_drops('shoes', 'tickets', 'quiet', 'over');
select pg_temp.hold(name, 'ann', 'bob', 'cat', 'dan') from unnest(array['shoes', 'tickets', 'quiet']) as name;

select is(pg_temp.sweep(1000000), null, 'When nothing is due nothing is expired.');

select pg_temp.let_run_out('shoes', 'ann');
select pg_temp.let_run_out('shoes', 'bob', now() + interval '1 microsecond');
select pg_temp.let_run_out('shoes', 'cat', now() - interval '1 hour');
select pg_temp.let_run_out('tickets', name, '2000-01-01') from unnest(array['ann', 'bob', 'cat', 'dan']) as name;
-- Not holds any more, though their time has passed.
update inventory.reservations set status = 'CANCELLED' where id = pg_temp.hold_id('tickets', 'ann');
update inventory.reservations set status = 'CONSUMED' where id = pg_temp.hold_id('tickets', 'dan');
insert into inventory.purchases (drop_id, reservation_id, user_id, unit_price, currency, amount, status)
values (pg_temp.drop_id('tickets'), pg_temp.hold_id('tickets', 'dan'), pg_temp.user_id('dan'), 10.00, 'USD', 10.00, 'paid');
update inventory.drops set available_stock = available_stock + 1 where id = pg_temp.drop_id('tickets');
select pg_temp.age_drops();
create temp table expired on commit drop as
select * from api.expire_reservations(1000000)
where drop_id in (select id from pg_temp.stored_drops());

select bag_eq(
  $$select drop_id, user_id, status, expires_at, "createdAt", "updatedAt" from expired$$,
  $$
    values
      (pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'EXPIRED', now(), now(), now()),
      (pg_temp.drop_id('shoes'), pg_temp.user_id('cat'), 'EXPIRED', now() - interval '1 hour', now(), now()),
      (pg_temp.drop_id('tickets'), pg_temp.user_id('bob'), 'EXPIRED', timestamptz '2000-01-01', now(), now()),
      (pg_temp.drop_id('tickets'), pg_temp.user_id('cat'), 'EXPIRED', timestamptz '2000-01-01', now(), now())
  $$,
  'What is due at this moment or was before, on all drops, comes back EXPIRED now; what has a microsecond left does not.'
);
select bag_eq(
  $$select * from pg_temp.stored_reservations() where status = 'EXPIRED'$$, 'table expired',
  'What comes back is what is stored, and nothing else is expired.'
);
select is(
  pg_temp.statuses_on('tickets'), array['ann CANCELLED', 'bob EXPIRED', 'cat EXPIRED', 'dan CONSUMED'],
  'What is CANCELLED or CONSUMED stays so.'
);
select results_eq(
  $$select name, available_stock, "updatedAt" from pg_temp.stored_drops() where name <> 'over' order by name$$,
  $$values ('quiet', 6, now() - interval '1 day'), ('shoes', 8, now()), ('tickets', 9, now())$$,
  'Each drop has the units back that were held of it, and says that it changed only when it did.'
);
select is(pg_temp.sweep(1000000), null, 'A second sweep finds nothing more.');
select is(array[pg_temp.stock_of('shoes'), pg_temp.stock_of('tickets')], array[8, 9], 'It gives nothing back twice.');
select is(
  (select status from api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'))), 'ACTIVE',
  'A user whose hold expired may reserve again.'
);

-- The limit.

select is(
  pg_temp.refusal(format('select api.expire_reservations(%s)', p_limit)),
  pg_temp.error('VALIDATION_ERROR', 'p_limit: must be 1 or more'), format('A sweep of at most %s is refused.', p_limit)
)
from unnest(array['0', '-1', 'null']) as p_limit;
select pg_temp.let_run_out('quiet', name, '2000-01-01'::timestamptz + ago)
from (values ('ann', interval '3 hours'), ('bob', '1 hour'), ('cat', '2 hours')) as v (name, ago);
select is(
  pg_temp.sweep(2), array['bob quiet', 'cat quiet'], 'A sweep stops at its limit and takes the oldest first.');
select is(pg_temp.stock_of('quiet'), 8, 'It gives back as many units as it expired.');
select is(pg_temp.sweep(2), array['ann quiet'], 'The next one takes the rest.');
select pg_temp.let_run_out('quiet', 'dan', '2000-01-01 01:00+00');
select pg_temp.let_run_out('shoes', 'dan', '2000-01-01 03:00+00');
select pg_temp.let_run_out('shoes', 'bob', '2000-01-01 04:00+00');
select is(
  pg_temp.sweep(2), array['bob shoes', 'dan shoes'],
  'The limit counts reservations over all drops, which are swept in order.'
);
select is(
  (select count(*) from api.expire_reservations() e where e.drop_id = pg_temp.drop_id('quiet')), 1::bigint,
  'Without a limit there is a sensible one.'
);

-- A drop that is over; many holds at once.

do $$
begin
  perform pg_temp.hold('over', 'ann');
  perform api.update_drop(pg_temp.drop_id('over'), '{"status": "ended"}');
  perform pg_temp.let_run_out('over', 'ann');
end
$$;
select is(pg_temp.sweep(1000000), array['ann over'], 'A hold on a drop that has ended expires, too.');
select is(pg_temp.stock_of('over'), 10, 'Its unit goes back to the drop.');
create temp table crowd on commit drop as select array_agg('crowd ' || n) as names from generate_series(1, 200) as n;
do $$
begin
  perform pg_temp.make_users(variadic names) from crowd;
  perform pg_temp.make_drop('many', 200);
  perform pg_temp.reserve_all('many', variadic names) from crowd;
  update inventory.reservations set expires_at = '2000-01-01' where drop_id = pg_temp.drop_id('many');
  perform api.expire_reservations(150);
end
$$;
select is(pg_temp.stock_of('many'), 150, 'Many holds of one drop are given back at once.');

select is_empty('select * from pg_temp.findings()', 'No unit was lost or made up on the way.');

select * from finish();
rollback;
