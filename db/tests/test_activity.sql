-- api.activity tells what happened lately: the latest events with their times, how the stock of drops went, and the position from
-- which to go on.
begin;
select plan(42);

select pg_temp.make_users('seller', 'ann', 'bob', 'cid');
select pg_temp.make_drops('shoe', 'quiet');
select pg_temp.make_drop('over', p_ends_in => '-1 minute');
select pg_temp.make_drop('coming', p_starts_in => '1 hour');
select pg_temp.make_drop('draft', p_status => 'draft');
do $$
begin
  delete from inventory.events;
end
$$;

-- Put an event into the log, so long ago.
create function pg_temp.log(p_id bigint, p_ago interval, p_type text, p_drop text, p_data json default '{}') returns void
language plpgsql as $$
begin
  insert into inventory.events (id, drop_id, type, data, created_at) overriding system value
  values (p_id, coalesce(pg_temp.drop_id(p_drop), md5(p_drop)::uuid), p_type, p_data, now() - p_ago);
end
$$;

-- The ids of the events in the activity.
create function pg_temp.ids_of(p_seconds integer, variadic p_drops text[] default null) returns text[] language sql as $$
  select array_agg(e ->> 'id' order by n)
  from api.activity(p_seconds, (select array_agg(pg_temp.drop_id(d)) from unnest(p_drops) as d)) a
  cross join json_array_elements(a.events) with ordinality as l (e, n)
$$;

-- The points of a drop, a row for each.
create function pg_temp.points_of(p_drop text, p_seconds integer default 3600)
returns table (at timestamptz, sold integer, held integer, available integer) language sql as $$
  select p.at, p.sold, p.held, p.available
  from api.activity(p_seconds, array[pg_temp.drop_id(p_drop)]) a
  cross join json_array_elements(a.drops) d
  cross join json_to_recordset(d -> 'points') as p (at timestamptz, sold integer, held integer, available integer)
$$;

-- "available/held" of a drop so long ago, as a reader of the points sees it.
create function pg_temp.stock_ago(p_drop text, p_ago interval) returns text language sql as $$
  select coalesce(p.available::text, '?') || '/' || coalesce(p.held::text, '?')
  from pg_temp.points_of(p_drop) p
  where p.at >= now() - p_ago
  order by p.at
  limit 1
$$;

-- The names of the drops that have points, in their order.
create function pg_temp.drops_with_points(p_drop_ids uuid[] default null) returns text[] language sql as $$
  select array_agg(d.name order by n)
  from api.activity(60, p_drop_ids) a
  cross join json_array_elements(a.drops) with ordinality as l (e, n)
  join inventory.drops d on d.id = (e ->> 'dropId')::uuid
  where d.created_by = pg_temp.user_id('seller')
$$;

-- Nothing in the log.

select results_eq(
  'select position, "to" - "from", "to" - now(), events::text, bucket_seconds from api.activity()',
  $$values ('0', interval '3600 seconds', interval '0', '[]', 60)$$,
  'An empty log gives no events, and the position from which nothing was missed.'
);
select is(pg_temp.stock_ago('shoe', '30 minutes'), '?/?', 'How the stock was is not known without a log,');
select is(pg_temp.stock_ago('shoe', '0'), '10/0', 'but it is known how it is.');

-- The latest events.

select pg_temp.log(11, '50 minutes', 'DROP_CREATED', 'shoe', '{"drop": {"available_stock": 10}}');
select pg_temp.log(12, '40 minutes', 'DROP_CREATED', 'draft');
select pg_temp.log(13, '40 minutes', 'DROP_REMOVED', 'draft');
select pg_temp.log(14, '40 minutes', 'STOCK_UPDATED', 'gone');
select pg_temp.log(15, '30 minutes', 'STOCK_UPDATED', 'shoe', '{"availableStock": 8}');
select pg_temp.log(16, '29 minutes', 'PURCHASE_COMPLETED', 'over', '{"username": "ann"}');
select pg_temp.log(20, '10 minutes', 'STOCK_UPDATED', 'shoe', '{"availableStock": 7}');

select is(pg_temp.ids_of(3600), '{11,13,15,16,20}', 'Oldest first; of what is not public any more, only its removal.');
select is(pg_temp.ids_of(1790), '{16,20}', 'They go back as far as was asked for.');
select is(pg_temp.ids_of(60), null, 'There may be none.');
select is(pg_temp.ids_of(3600, 'over'), '{16}', 'They are of the drops that were asked for,');
select is(pg_temp.ids_of(3600, 'over', 'shoe', 'shoe'), '{11,15,16,20}', 'each once.');
select is(
  (select events -> 0 from api.activity(3600, array[pg_temp.drop_id('over')]))::jsonb,
  jsonb_build_object(
    'id', '16', 'type', 'PURCHASE_COMPLETED', 'dropId', pg_temp.drop_id('over'),
    'at', to_json((now() - interval '29 minutes') at time zone 'UTC') #>> '{}' || '+00:00', 'data', '{"username": "ann"}'::jsonb),
  'An event has its id, type, drop, time and data.'
);
select is((select position from api.activity(60, array[pg_temp.drop_id('over')])), '20', 'The position is the end of the log.');
select pg_temp.log(21, '-1 second', 'STOCK_UPDATED', 'over', '{"availableStock": 10}');
select is((select "to" - now() from api.activity()), '1 second', 'The time goes on to the newest event.');
do $$
begin
  delete from inventory.events where id = 21;
end
$$;

-- How the stock of a drop went.

do $$
begin
  perform api.reserve(pg_temp.drop_id('shoe'), u) from unnest(pg_temp.user_ids('ann', 'bob', 'cid')) as u;
  perform api.purchase(pg_temp.drop_id('shoe'), u) from unnest(pg_temp.user_ids('ann', 'bob')) as u;
  update inventory.purchases set created_at = now() - interval '25 minutes' where id = pg_temp.purchase_id('shoe', 'ann');
  update inventory.purchases set created_at = now() - interval '5 minutes' where id = pg_temp.purchase_id('shoe', 'bob');
end
$$;
select is(pg_temp.stock_ago('shoe', v.ago), v.expected, format('%s ago it was %s.', v.ago, v.expected))
from (values
  (interval '55 minutes', '?/?'), ('49 minutes', '10/0'), ('31 minutes', '10/0'), ('29 minutes', '8/2'), ('24 minutes', '8/1'),
  ('11 minutes', '8/1'), ('9 minutes', '7/2'), ('4 minutes', '7/1'), ('0', '7/1')
) as v (ago, expected);
select results_eq(
  $$select now() - at >= '5 minutes' or at = now(), sold from pg_temp.points_of('shoe') where sold > 0$$,
  $$values (true, 1), (false, 1)$$,
  'A sale is in the bucket of its time.'
);
select cmp_ok((select count(*) from pg_temp.points_of('shoe')), '<', 20::bigint, 'Points where nothing changed are left out.');
select is(
  (select array[bucket_seconds, json_array_length(drops)] from api.activity(86400, array[pg_temp.drop_id('shoe')])), '{360,1}',
  'A day has 240 buckets,'
);
select is(
  (select bucket_seconds from api.activity(86400, array(select md5(n::text)::uuid from generate_series(1, 11) as n))), 1440,
  'or 60, if more than ten drops are asked for.'
);
select is((select bucket_seconds from api.activity(1, array[pg_temp.drop_id('shoe')])), 1, 'A bucket has a second at least.');

do $$
begin
  perform api.refund_purchase(pg_temp.purchase_id('shoe', 'bob'));
  perform pg_temp.log(30, '0', 'STOCK_UPDATED', 'shoe', '{"availableStock": 8}');
  insert into inventory.drop_changes (drop_id, action, db_user, details, created_at)
  values (pg_temp.drop_id('shoe'), 'updated', 'x', '{"total_stock": {"from": 7, "to": 10}}', now() - interval '27 minutes');
  update inventory.events set data = '{"availableStock": 5}' where id = 15;
  perform pg_temp.log(17, '27 minutes', 'DROP_UPDATED', 'shoe', '{"drop": {"available_stock": 8}}');
end
$$;
select is(
  array[
    pg_temp.stock_ago('shoe', '4 minutes'), pg_temp.stock_ago('shoe', '0'),
    (select sum(sold)::text from pg_temp.points_of('shoe'))
  ],
  '{7/1,8/1,2}', 'A unit that was refunded counts as sold until then, and its sale stays.'
);
select is(
  array[pg_temp.stock_ago('shoe', '28 minutes'), pg_temp.stock_ago('shoe', '26 minutes')], '{5/2,8/2}',
  'Before units were added, there were fewer.'
);

-- What is not in the log.

select is(pg_temp.stock_ago('quiet', '49 minutes'), '10/0', 'A drop of which the log has nothing was as it is,');
select is(pg_temp.stock_ago('quiet', '51 minutes'), '?/?', 'as far as the log reaches back.');
do $$
begin
  delete from inventory.events where id < 20;
end
$$;
select is(
  array[pg_temp.stock_ago('shoe', '30 minutes'), pg_temp.stock_ago('shoe', '11 minutes'), pg_temp.stock_ago('shoe', '9 minutes')],
  '{?/?,?/?,7/2}', 'How the stock was before the oldest event of a drop is not known,'
);
select is((select sum(sold) from pg_temp.points_of('shoe')), 2::bigint, 'but all sales are.');

do $$
begin
  perform pg_temp.log(1, '90 minutes', 'STOCK_UPDATED', 'shoe', '{"availableStock": 9}');
  perform pg_temp.log(2, '85 minutes', 'STOCK_UPDATED', 'quiet', '{"availableStock": 10}');
  perform pg_temp.log(3, '45 minutes', 'DROP_UPDATED', 'shoe', '{"drop": {"available_stock": 8}}');
  perform pg_temp.log(4, '44 minutes', 'ACTIVITY_UPDATED', 'shoe');
  perform pg_temp.log(5, '43 minutes', 'ACTIVITY_UPDATED', 'shoe');
  perform api.prune_events(1800, 1);
end
$$;
select is(
  array[pg_temp.stock_ago('shoe', '59 minutes'), pg_temp.stock_ago('shoe', '44 minutes'), pg_temp.stock_ago('shoe', '9 minutes')],
  '{9/0,8/0,7/2}', 'The stock that the last pruned event told is known,'
);
do $$
begin
  perform api.prune_events(1800);
end
$$;
select is(
  array[pg_temp.stock_ago('shoe', '46 minutes'), pg_temp.stock_ago('shoe', '44 minutes'), pg_temp.stock_ago('shoe', '9 minutes')],
  '{?/?,8/0,7/2}', 'from its time on,'
);
select is(pg_temp.stock_ago('quiet', '59 minutes'), '10/0', 'and of a quiet drop for as long as it is quiet.');

-- Which drops.

select is(pg_temp.drops_with_points(), '{quiet,shoe}', 'Without a choice there are the drops on sale.');
select is(
  (select pg_temp.drops_with_points(array_agg(d.id)) from inventory.drops d where d.created_by = pg_temp.user_id('seller')),
  '{coming,over,quiet,shoe}', 'A drop that was asked for may be in any status but draft.'
);
select pg_temp.make_drop('on sale ' || n, p_starts_in => n * interval '1 second' - interval '10 minutes')
from generate_series(1, 60) as n;
select is(
  (
    select array[min(n), max(n), count(*)]
    from (select split_part(d, ' ', 3)::integer from unnest(pg_temp.drops_with_points()) as d) s (n)
  ),
  '{11,60,50}', 'Without a choice there are 50 drops, those that started last.'
);

-- The place of a time in the log.

do $$
begin
  delete from inventory.events;
  insert into inventory.events (id, drop_id, type, data, created_at) overriding system value
  select n * 3 + n % 2, md5('drop')::uuid, 'TYPE', '{}', now() - interval '1 hour' + power(n, 2) * interval '10 ms'
  from generate_series(1, 600) as n;
end
$$;
create temp table searched on commit drop as
select now() - interval '1 hour' + n * interval '9 seconds' as time from generate_series(-1, 405) as n;
select is(
  (
    select array_agg((select max(e.id) from inventory.events e where e.id <= found.id) order by found.n)
    from unnest(inventory.event_ids_at(array(select time from searched order by time))) with ordinality as found (id, n)
  ),
  (select array_agg((select max(e.id) from inventory.events e where e.created_at <= time) order by time) from searched),
  'The events up to a time are found by a search.'
);

select is(pg_temp.refusal(v.call), v.expected, v.call)
from (values
  ('select from api.activity(0)', 'PT400 VALIDATION_ERROR: seconds: must be between 1 and 86400'),
  ('select from api.activity(86401)', 'PT400 VALIDATION_ERROR: seconds: must be between 1 and 86400'),
  ('select from api.activity(null)', 'PT400 VALIDATION_ERROR: seconds: must be between 1 and 86400'),
  ('select from api.activity(1, array_fill(gen_random_uuid(), array[101]))',
    'PT400 VALIDATION_ERROR: dropId: must not be more than 100 drops')
) as v (call, expected);

select * from finish();
rollback;
