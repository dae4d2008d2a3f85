-- api.snapshot is where a dashboard starts: the drops as they are, and the id of the last event that is in them.
begin;
select plan(19);

-- The drops in a snapshot that are the seller's, by name.
create function pg_temp.names_in(p_data json) returns text[] language sql stable as $$
  select array_agg(d.content ->> 'name' order by d.n)
  from json_array_elements(p_data -> 'drops') with ordinality as d (content, n)
  where d.content ->> 'created_by' = pg_temp.user_id('seller')::text
$$;

create function pg_temp.names_of(variadic p_drops text[]) returns text[] language sql stable as $$
  select pg_temp.names_in(s.data) from api.snapshot(array(select pg_temp.drop_id(name) from unnest(p_drops) as name)) s
$$;

do $$
begin
  perform pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan');
  perform api.create_drop(v.name, 10, 5, pg_temp.user_id('seller'), v.starts_at, v.ends_at)
  from (values
    ('ended', now() - interval '9 hours', null::timestamptz),
    ('cancelled', now() - interval '1 hour', null),
    ('draft', null, null),
    ('early', now() + interval '1 hour', null),
    ('live', now() - interval '2 hours', now() + interval '1 day'),
    ('over', now() - interval '3 hours', null),
    ('older', now() - interval '4 hours', null)
  ) as v (name, starts_at, ends_at);
  perform api.create_drop(name, 10, 5, pg_temp.user_id('seller'), now() - interval '5 hours')
  from unnest(array['first', 'second']) as name;
  perform api.create_drop('other draft', 10, 5, pg_temp.user_id('seller'));
  perform api.update_drop(pg_temp.drop_id(name), json_build_object('status', name)::jsonb)
  from unnest(array['ended', 'cancelled']) as name;
  update inventory.drops set ends_at = now() where id = pg_temp.drop_id('over');
  perform api.reserve(pg_temp.drop_id('live'), pg_temp.user_id(name)) from unnest(array['ann', 'bob', 'cat', 'dan']) as name;
  perform api.purchase(pg_temp.drop_id('live'), pg_temp.user_id(name)) from unnest(array['ann', 'bob', 'cat', 'dan']) as name;
  update inventory.purchases p set created_at = now() - make_interval(mins => n::integer)
  from unnest(pg_temp.user_ids('cat', 'ann', 'dan', 'bob')) with ordinality as u (id, n)
  where p.user_id = u.id and p.drop_id = pg_temp.drop_id('live');
end
$$;
set constraints all immediate;
set constraints all deferred;
create temp table snapshot on commit drop as select * from api.snapshot();

select is((select count(*) from snapshot), 1::bigint, 'A snapshot is one event.');
select is((select array[type, drop_id::text] from snapshot), array['SNAPSHOT', null], 'Its type says so, and it is of no drop.');
select is(
  (select id from snapshot), (select max(id)::text from inventory.events), 'Its id is that of the newest event, which is in it.'
);
select is(
  (select array_agg(key) from snapshot, json_object_keys(data) as key), array['drops'], 'Its data is the drops and nothing else.'
);
select is(
  (select pg_temp.names_in(data) from snapshot),
  array['early', 'live', 'over', 'older', 'second', 'first'],
  'They are the drops that are scheduled or live: newest start first, then newest drop.'
);
select is(
  (
    select d::text
    from snapshot, json_array_elements(data -> 'drops') as d
    where d ->> 'id' = pg_temp.drop_id('live')::text
  ),
  (select to_json(l)::text from api.list_drops(p_limit => 1000) l where l.id = (select pg_temp.drop_id('live'))),
  'A drop is written to the letter as list_drops shows it.'
);
select is(
  (
    select array_agg(p ->> 'userId')
    from snapshot, json_array_elements(data -> 'drops') as d, json_array_elements(d #> '{activity_feed,latest_purchasers}') as p
    where d ->> 'id' = pg_temp.drop_id('live')::text
  ),
  array(select id::text from unnest(pg_temp.user_ids('cat', 'ann', 'dan')) as id),
  'Its feed is the three latest purchasers, the latest first.'
);
select is(
  (
    select d ->> 'activity_feed'
    from snapshot, json_array_elements(data -> 'drops') as d
    where d ->> 'id' = pg_temp.drop_id('first')::text
  ),
  '{"latest_purchasers":[],"held_stock":0}', 'A drop that nobody bought has an empty feed.'
);
select is(
  (
    select array_agg(key)
    from snapshot, json_array_elements(data -> 'drops') as d, json_object_keys(d) as key
    where d ->> 'id' = pg_temp.drop_id('first')::text
  ),
  array[
    'id', 'name', 'price', 'currency', 'total_stock', 'available_stock', 'variants', 'starts_at', 'ends_at', 'status',
    'paused_at', 'limit_per_user', 'hold_seconds', 'rehold_after_seconds', 'extension_seconds', 'revision', 'created_by', 'createdAt',
    'updatedAt', 'image_url', 'activity_feed'
  ],
  'A drop has the names of the wire.'
);
select ok((select data::text !~ '\n' from snapshot), 'The data is one line.');
select is(
  (select row(type, id, data::text)::text from api.snapshot(null)), (select row(type, id, data::text)::text from snapshot),
  'No ids are those of the default.'
);

-- The drops that are asked for.

select is(
  pg_temp.names_of('first', 'cancelled', 'draft', 'ended', 'live'), array['cancelled', 'live', 'first', 'ended'],
  'Drops that are asked for are given in any status but draft, in the same order.'
);
select is(pg_temp.names_of('live', 'live', 'nothing'), array['live'], 'Each is given once; null asks for none.');
select is(
  (select s.data::text from api.snapshot(array[gen_random_uuid()]) s), '{"drops":[]}', 'A drop that does not exist is left out.'
);
select is(
  (select pg_temp.names_in(s.data) from api.snapshot(array[gen_random_uuid(), pg_temp.drop_id('over')]) s), array['over'],
  'It keeps no other out.'
);
select is((select s.data::text from api.snapshot('{}') s), '{"drops":[]}', 'Who asks for no drop gets none.');
select is(
  (select s.id from api.snapshot('{}') s), (select max(id)::text from inventory.events),
  'The id is the same whatever is asked for.'
);

-- Its place in the log.

select is_empty(
  $$select * from api.events_after((select id::bigint from snapshot))$$, 'Nothing comes after it until something happens.'
);
do $$ begin delete from inventory.events; end $$;
select is((select id from api.snapshot()), '0', 'Before the first event it is 0, after which all events come.');

select * from finish();
rollback;
