-- inventory.new_ids makes many UUIDs of version 7 at once, in rising order.
begin;
select plan(6);

create temp table made on commit drop as
select
  call.call, i.n, i.id, now_milliseconds.before, (extract(epoch from clock_timestamp()) * 1000)::bigint as after
from generate_series(1, 20) as call
cross join lateral (select (extract(epoch from clock_timestamp()) * 1000)::bigint as before, call as c) now_milliseconds
cross join lateral unnest(inventory.new_ids(500 + 0 * call)) with ordinality as i (id, n);

select is((select count(distinct id) from made), 10000::bigint, 'As many as asked for, and no two are the same.');
select is_empty(
  $$select id from made where id::text !~ '^.{14}7.{4}[89ab]'$$, 'The version is 7, and the variant is that of RFC 9562.'
);
select is_empty(
  $$select id from (select id, lag(id) over (partition by call order by n) as previous from made) m where id <= previous$$,
  'Those of a call rise.'
);
select is_empty(
  $$
    select id from made
    where ('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint not between before - 1 and after + 1
  $$,
  'The first 48 bits are the time in milliseconds.'
);
select is((select count(distinct right(id::text, 12)) from made), 10000::bigint, 'The last 48 bits are random.');
select is(
  array[cardinality(inventory.new_ids(0)), cardinality(inventory.new_ids(1)), cardinality(inventory.new_ids(2))], array[0, 1, 2],
  'None, one and two.'
);

select * from finish();
rollback;
