-- A purchase neither locks nor writes the drop's row, so sales do not queue behind reserves of the same drop.
begin;
select plan(10);

-- Holds are put in by hand, and without their reference to the drop, for a reserve and the reference each lock the drop's row:
-- what comes after would not show.
alter table inventory.reservations drop constraint reservations_drop_id_fkey;

create function pg_temp.drop_id() returns uuid language sql stable as $$
  select d.id from inventory.drops d where d.created_by = pg_temp.user_id('seller')
$$;

-- Where and as what the row of the drop is stored: a write moves it, a lock marks it.
create function pg_temp.row_version() returns text language sql stable as $$
  select concat_ws(' ', d.ctid, d.xmin, d.xmax) from inventory.drops d where d.id = pg_temp.drop_id()
$$;

do $$
begin
  perform api.ensure_user(pg_temp.user_id(name)) from unnest(array['seller', 'ann', 'bob', 'cat', 'dan', 'eve']) as name;
  perform api.create_drop('shoes', 10, 5, pg_temp.user_id('seller'), now() - interval '1 hour');
  insert into inventory.reservations (drop_id, user_id, expires_at)
  select pg_temp.drop_id(), pg_temp.user_id(name), now() + interval '1 minute'
  from unnest(array['ann', 'bob', 'cat', 'dan']) as name;
  update inventory.drops set available_stock = 1 where id = pg_temp.drop_id();
end
$$;

create temp table before on commit drop as select pg_temp.row_version() as row_version;

select matches((select row_version from before), ' 0$', 'At first nobody has locked the drop.');
select results_eq(
  $$
    select status, replayed
    from api.purchase_batch(pg_temp.drop_id(), array[pg_temp.user_id('ann'), pg_temp.user_id('bob')], array['a', 'b'])
  $$,
  $$values (201, false), (201, false)$$,
  'Two holds are sold in a batch.'
);
select is(pg_temp.row_version(), (select row_version from before), 'A batch of sales neither locks nor writes the drop.');
select is(
  (select status from api.purchase(pg_temp.drop_id(), pg_temp.user_id('cat'), 'c')), 'paid', 'A hold is sold on its own.'
);
select is(pg_temp.row_version(), (select row_version from before), 'A sale on its own neither locks nor writes the drop.');
select results_eq(
  $$
    select status, code
    from api.purchase_batch(pg_temp.drop_id(), array[pg_temp.user_id('ann'), pg_temp.user_id('eve')], array['a', 'e'])
  $$,
  $$values (200, null), (409, 'NO_ACTIVE_RESERVATION')$$,
  'A repeat and a request without a hold are answered.'
);
select is(pg_temp.row_version(), (select row_version from before), 'They neither lock nor write the drop.');
do $$ begin perform from inventory.drops d where d.id = pg_temp.drop_id() for key share; end $$;
select isnt(pg_temp.row_version(), (select row_version from before), 'Even the weakest lock would have shown.');

create temp table locked on commit drop as select pg_temp.row_version() as row_version;
do $$ begin update inventory.reservations set expires_at = now() where drop_id = pg_temp.drop_id() and status = 'ACTIVE'; end $$;
select results_eq(
  $$select status, code from api.purchase_batch(pg_temp.drop_id(), array[pg_temp.user_id('dan')], null)$$,
  $$values (409, 'RESERVATION_EXPIRED')$$,
  'A hold that ran out is not sold.'
);
select isnt(pg_temp.row_version(), (select row_version from locked), 'Only such a hold touches the drop, to give its unit back.');

select * from finish();
rollback;
