-- api.advance_drops lets the clock move drops on, scheduled to live and live to ended, to the microsecond, and no other drop.
begin;
select plan(7);

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

select pg_temp.make_users('seller', 'ann');
select pg_temp.make_drop(name, 5, starts_in, ends_in, status) from planned;
select pg_temp.hold('A live drop that ends in a microsecond stays live.', 'ann');
select pg_temp.age_drops();
create temp table drop_before on commit drop as select * from pg_temp.stored_drops();
create temp table advanced on commit drop as select * from api.advance_drops() where created_by = pg_temp.user_id('seller');

select results_eq(
  'select * from pg_temp.stored_drops() order by id',
  $$
    select
      b.id, b.name, b.price, b.currency, b.total_stock, b.available_stock, b.variants, b.starts_at, b.ends_at, p.expected,
      b.paused_at, b.limit_per_user, b.hold_seconds, b.rehold_after_seconds, b.extension_seconds, b.revision, b.created_by, b."createdAt",
      case when p.expected <> p.status then now() else b."updatedAt" end, b.image_url
    from drop_before b
    join planned p on p.name = b.name
    order by b.id
  $$,
  'Each drop has the status that its name says; a drop that moved says that it changed; all else is as before.'
);
select bag_eq(
  'table advanced',
  'select d.* from pg_temp.stored_drops() d join planned p on p.name = d.name where p.expected <> p.status',
  'Exactly the drops that moved come back, as they are stored.'
);
select is_empty(
  $$select name from api.advance_drops() where created_by = pg_temp.user_id('seller')$$, 'At the same moment nothing moves again.'
);

-- The end of a drop is not the end of its holds.
update inventory.drops set ends_at = now() where id = pg_temp.drop_id('A live drop that ends in a microsecond stays live.');
select is(
  (select array_agg(status) from api.advance_drops() where created_by = pg_temp.user_id('seller')), array['ended'],
  'A drop whose time comes later moves later.'
);
select is(
  pg_temp.statuses_on('A live drop that ends in a microsecond stays live.'), array['ann ACTIVE'], 'Its hold stays as it is.'
);
select is(
  (select status
    from api.purchase(pg_temp.drop_id('A live drop that ends in a microsecond stays live.'), pg_temp.user_id('ann'))), 'paid',
  'A hold can be purchased after the drop ended.'
);
select is_empty('select * from pg_temp.findings()', 'No unit was lost or made up on the way.');

select * from finish();
rollback;
