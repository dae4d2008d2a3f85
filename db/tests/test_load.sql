-- api.load counts the units of live drops that are in stock, by the clock.
begin;
select plan(5);

-- Those of other tests are away until the end of this one.
truncate inventory.drops, inventory.variants, inventory.reservations, inventory.purchases;

select is(api.load(), 0::bigint, 'Without drops nothing waits.');
do $$
begin
  perform pg_temp.make_users('seller', 'ann');
  perform pg_temp.make_drop('live', 10);
  perform pg_temp.make_drop('started', 100, '-1 hour', null, 'scheduled');
  perform pg_temp.make_drop('to start', 1000, '1 hour', null, 'scheduled');
  perform pg_temp.make_drop('over', 1000, '-1 hour', '0', 'live');
  perform pg_temp.make_drop('draft', 1000, null, null, 'draft');
  perform pg_temp.make_drop('ended', 1000, '-1 hour', '1 hour', 'ended');
  perform pg_temp.make_drop('cancelled', 1000, '-1 hour', '1 hour', 'cancelled');
end
$$;
select is(api.load(), 110::bigint, 'Live drops count, whether or not the sweep has come by; others do not.');
do $$ begin perform pg_temp.hold('live', 'ann'); end $$;
select is(api.load(), 109::bigint, 'What is held does not wait.');
update inventory.drops set total_stock = 2147483647, available_stock = 2147483646 where created_by = pg_temp.user_id('seller') and name = 'live';
select is(api.load(), 2147483746::bigint, 'It is more than an integer can be.');
do $$ begin perform api.update_drop(pg_temp.drop_id('started'), '{"paused": true}'); end $$;
select is(api.load(), 2147483746::bigint, 'A drop that is paused goes on.');

select * from finish();
rollback;
