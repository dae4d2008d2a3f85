-- api.advance_drops lets the clock move drops on, scheduled to live and live to ended, to the microsecond, and no other drop.
begin;
select plan(22);

create temp table planned (name text primary key, starts_in interval, ends_in interval, status text, expected text)
on commit drop;
insert into planned values
  ('A scheduled drop goes live at the moment it starts.', '0', null, 'scheduled', 'live'),
  ('A scheduled drop whose start was missed goes live.', '-1 hour', '1 hour', 'scheduled', 'live'),
  ('A scheduled drop that starts in a microsecond stays scheduled.', '1 microsecond', null, 'scheduled', 'scheduled'),
  ('A scheduled drop that was missed altogether ends.', '-2 hours', '-1 hour', 'scheduled', 'ended'),
  ('A scheduled drop ends at the moment it ends.', '-2 hours', '0', 'scheduled', 'ended'),
  ('A live drop ends at the moment it ends.', '-1 hour', '0', 'live', 'ended'),
  ('A live drop whose end was missed ends.', '-2 hours', '-1 hour', 'live', 'ended'),
  ('A live drop that ends in a microsecond stays live.', '-1 hour', '1 microsecond', 'live', 'live'),
  ('A live drop without end stays live.', '-1 hour', null, 'live', 'live'),
  ('A draft stays a draft, whatever its times.', '-2 hours', '-1 hour', 'draft', 'draft'),
  ('A cancelled drop stays cancelled, whatever its times.', '-2 hours', '-1 hour', 'cancelled', 'cancelled'),
  ('An ended drop stays ended, whatever its times.', '-2 hours', '-1 hour', 'ended', 'ended');

do $$
begin
  perform api.ensure_user(pg_temp.user_id(name)) from unnest(array['seller', 'ann']) as name;
  perform api.create_drop(
    p.name, 10, 5, pg_temp.user_id('seller'), now() + p.starts_in, now() + p.ends_in,
    case when p.status in ('cancelled', 'ended') then 'live' else p.status end)
  from planned p;
  perform api.update_drop(pg_temp.drop_id(name), jsonb_build_object('status', status))
  from planned
  where status in ('cancelled', 'ended');
  perform api.reserve(pg_temp.drop_id('A live drop that ends in a microsecond stays live.'), pg_temp.user_id('ann'));
  update inventory.drops set updated_at = now() - interval '1 day' where created_by = pg_temp.user_id('seller');
end
$$;

create temp table drop_before on commit drop as select * from inventory.drops where created_by = pg_temp.user_id('seller');
create temp table advanced on commit drop as select * from api.advance_drops() where created_by = pg_temp.user_id('seller');

select is((select status from inventory.drops where id = pg_temp.drop_id(p.name)), p.expected, p.name) from planned p;

select is(
  (select array_agg(key) from (select * from advanced limit 1) a, json_object_keys(to_json(a)) as key),
  array[
    'id', 'name', 'price', 'total_stock', 'available_stock', 'starts_at', 'ends_at', 'status', 'created_by', 'createdAt',
  'updatedAt'
  ],
  'The row has the names of the wire.'
);
select bag_eq(
  $$select name, status, "updatedAt" from advanced$$, $$select name, expected, now() from planned where status <> expected$$,
  'Exactly the drops that moved come back, changed now.'
);
select results_eq(
  $$
    select id, name, price, total_stock, available_stock, starts_at, ends_at, status, created_by, created_at, updated_at
    from inventory.drops
    where id in (select id from advanced)
    order by id
  $$,
  $$select * from advanced order by id$$,
  'What comes back is what is stored.'
);
select results_eq(
  $$
    select id, name, price, total_stock, available_stock, starts_at, ends_at, created_by, created_at
    from inventory.drops where created_by = pg_temp.user_id('seller') order by id
  $$,
  $$
    select id, name, price, total_stock, available_stock, starts_at, ends_at, created_by, created_at
    from drop_before order by id
  $$,
  'Nothing but the status moves.'
);
select is_empty(
  $$
    select name from inventory.drops
    where created_by = pg_temp.user_id('seller') and updated_at = now() and id not in (select id from advanced)
  $$,
  'A drop that does not move does not say that it changed.'
);
select is_empty(
  $$select name from api.advance_drops() where created_by = pg_temp.user_id('seller')$$, 'At the same moment nothing moves again.'
);

-- The end of a drop is not the end of its holds.
do $$
begin
  update inventory.drops set ends_at = now() where id = pg_temp.drop_id('A live drop that ends in a microsecond stays live.');
end
$$;
select is(
  (select array_agg(status) from api.advance_drops() where created_by = pg_temp.user_id('seller')), array['ended'],
  'What comes due later moves later.'
);
select is(
  (select array_agg(status) from api.my_reservations(pg_temp.user_id('ann'))), array['ACTIVE'],
  'A drop that ends keeps its holds.'
);
select is(
  (select status
    from api.purchase(pg_temp.drop_id('A live drop that ends in a microsecond stays live.'), pg_temp.user_id('ann'))), 'paid',
  'They can be purchased.'
);
select is_empty(
  $$
    select a.* from api.audit() a join inventory.drops d on d.id = a.drop_id where d.created_by = pg_temp.user_id('seller')
  $$,
  'No unit was lost or made up on the way.'
);

select * from finish();
rollback;
