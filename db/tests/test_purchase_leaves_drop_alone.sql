-- A purchase neither locks nor writes the drop's row, so sales do not queue behind reserves of the same drop.
begin;
select plan(8);

-- Holds are put in by hand, because a reserve locks the drop's row: what comes after would not show. What is put in by hand locks it,
-- too, unless the triggers take it for the work of a function.

-- A trigger before an update marks the row as a lock does, so it is not there in this test.
drop trigger drops_raise_revision on inventory.drops;

-- Where and as what the row of the drop is stored: a write moves it, a lock marks it.
create function pg_temp.row_version() returns text language sql stable as $$
  select concat_ws(' ', d.ctid, d.xmin, d.xmax) from inventory.drops d where d.id = pg_temp.drop_id('shoes')
$$;

select pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan', 'eve');
select pg_temp.make_drop('shoes', 5);
update inventory.drops set available_stock = 1, nothing_due_before = now() + interval '1 minute' where id = pg_temp.drop_id('shoes');
set local lastpair.is_by_hand = off;
insert into inventory.reservations (drop_id, user_id, expires_at)
select pg_temp.drop_id('shoes'), user_id, now() + interval '1 minute'
from unnest(pg_temp.user_ids('ann', 'bob', 'cat', 'dan')) as user_id;
set local lastpair.is_by_hand = on;
create temp table before on commit drop as select pg_temp.row_version() as row_version;

select matches((select row_version from before), ' 0$', 'At first no transaction has locked the drop.');
select is(
  pg_temp.purchase_all('shoes', 'ann', 'bob', 'eve'), array[null, null, 'NO_ACTIVE_RESERVATION'],
  'A batch sells two holds and refuses a user without one.'
);
select results_eq(
  $$select status, replayed from api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('cat'), 'key')$$,
  format('values (''paid'', %L::boolean)', replayed), format('A hold is sold on its own, replayed: %s.', replayed)
)
from unnest(array[false, true]) as replayed;
select is(
  pg_temp.row_version(), (select row_version from before), 'Sales, a repeat and a refusal neither lock nor write the drop.'
);
do $$ begin perform from inventory.drops d where d.id = pg_temp.drop_id('shoes') for key share; end $$;
select isnt(pg_temp.row_version(), (select row_version from before), 'Even the weakest lock would have shown.');

create temp table locked on commit drop as select pg_temp.row_version() as row_version;
select pg_temp.let_run_out('shoes', 'dan');
select is(pg_temp.purchase_all('shoes', 'dan'), array['RESERVATION_EXPIRED'], 'A hold that ran out is not sold.');
select isnt(pg_temp.row_version(), (select row_version from locked), 'Only such a hold touches the drop, to give its unit back.');

select * from finish();
rollback;
