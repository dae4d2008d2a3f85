-- inventory.uuid_v7 makes UUIDs of version 7, which sort by time of birth: native from PostgreSQL 18 on, emulated below.
begin;
select plan(5);

create function pg_temp.unix_milliseconds(p_id uuid) returns bigint language sql immutable as $$
  select ('x' || left(replace(p_id::text, '-', ''), 12))::bit(48)::bigint
$$;

create function pg_temp.now_milliseconds() returns bigint language sql volatile as $$
  select (extract(epoch from clock_timestamp()) * 1000)::bigint
$$;

-- One id every few milliseconds, in the order in which they were made.
create function pg_temp.uuids_over_time(p_count integer) returns uuid[] language plpgsql as $$
declare
  v_ids uuid[] := '{}';
begin
  for i in 1 .. p_count loop
    v_ids := v_ids || inventory.uuid_v7();
    perform pg_sleep(0.003);
  end loop;
  return v_ids;
end
$$;

create temp table made on commit drop as
select pg_temp.now_milliseconds() as before_milliseconds, inventory.uuid_v7() as id,
pg_temp.now_milliseconds() as after_milliseconds
from generate_series(1, 1000);

select is_empty(
  $$select id from made where id::text !~ '^.{14}7.{4}[89ab]'$$, 'The version is 7, and the variant is that of RFC 9562.'
);
select results_eq(
  'select count(distinct id), count(distinct right(id::text, 12)) from made', 'values (1000::bigint, 1000::bigint)',
  'No two ids are the same, and the last 48 bits are random.'
);
select is_empty(
  $$select * from made where pg_temp.unix_milliseconds(id) not between before_milliseconds - 1 and after_milliseconds + 1$$,
  'The first 48 bits are the time of birth in milliseconds.'
);
select is(
  ids, (select array_agg(id order by id) from unnest(ids) as id),
  'Ids made in different milliseconds sort in the order they were made.'
)
from pg_temp.uuids_over_time(50) as ids;
select is(
  (select count(distinct pg_temp.unix_milliseconds(id)) from unnest(pg_temp.uuids_over_time(20)) as id), 20::bigint,
  'The time is the clock''s, not the transaction''s.'
);

select * from finish();
rollback;
