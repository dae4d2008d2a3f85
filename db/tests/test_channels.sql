-- An event that is for one user is in the log like any other, and nobody but this user reads it.
begin;
select plan(41);

-- A log of its own for this test: events of two drops, public ones and those of ann and bob.
do $$
begin
  perform pg_temp.make_users('ann', 'bob');
  delete from inventory.events;
  insert into inventory.events (id, drop_id, type, data, user_id) overriding system value
  select
    e.id, md5(e.drop_name)::uuid, 'TYPE_' || e.id, '{"text":"private"}',
    case when e.user_name <> '' then pg_temp.user_id(e.user_name) end
  from (values
    (11, 'shoes', ''), (12, 'shoes', 'ann'), (13, 'hats', 'ann'), (14, 'shoes', 'bob'), (15, 'hats', ''), (16, 'shoes', 'ann'),
    (17, 'shoes', 'bob')
  ) as e (id, drop_name, user_name);
end
$$;

create function pg_temp.drop_ids(p_drops text) returns uuid[] language sql immutable as $$
  select array_agg(md5(d)::uuid) from string_to_table(p_drops, ' ') as d
$$;

-- The ids of the events, or the first one's type if it is not of the log.
create function pg_temp.read(p_after bigint, p_limit integer, p_drops text, p_user text) returns text language sql as $$
  select string_agg(case e.type when 'TYPE_' || e.id then e.id else e.type end, ' ' order by n)
  from rows from (
    api.events_after(
      p_after, p_limit, pg_temp.drop_ids(p_drops), case when p_user <> '' then pg_temp.user_id(p_user) end)
  ) with ordinality as e (type, id, drop_id, data, n)
$$;

select is(pg_temp.read(v.after, v.row_limit, v.drops, v.name), v.expected, v.description)
from (values
  (11, 100, null, '', '15', 'Without a user there are public events only.'),
  (11, 100, null, 'ann', '12 13 15 16', 'A user reads the own ones, too, in the order of ids.'),
  (11, 100, null, 'bob', '14 15 17', 'Another user reads others.'),
  (11, 100, null, 'nobody', '15', 'A user without any reads the public ones.'),
  (11, 2, null, 'ann', '12 13', 'The limit counts what is read,'),
  (11, 1, null, '', '15', 'and not what is left out.'),
  (null, 2, null, '', '11 15', 'The latest ones are public,'),
  (null, 2, null, 'ann', '15 16', 'or the own ones.'),
  (11, 100, 'shoes', '', null, 'Of some drops the same is true:'),
  (11, 100, 'shoes', 'ann', '12 13 16', 'the own events are those of every drop,'),
  (11, 100, 'hats', 'bob', '14 15 17', 'in the order of ids,'),
  (11, 2, 'hats', 'bob', '14 15', 'and within the limit,'),
  (11, 100, 'hats hats', 'bob', '14 15 17', 'each once.'),
  (17, 100, null, '', null, 'The id of an event that a reader may not see is a place in the log,'),
  (14, 100, 'hats', '', '15', 'for a reader of a drop, too.'),
  (9, 100, 'hats', '', '15', 'A reader of drops may have an id older than the log,'),
  (9, 100, 'hats', 'bob', 'RESYNC_REQUIRED', 'but not if it is also a reader of what is for one user.'),
  (9, 100, null, 'bob', 'RESYNC_REQUIRED', 'Nor may a reader of all drops.')
) as v (after, row_limit, drops, name, expected, description);
select is((select string_agg(id, ' ' order by id) from api.events_after(10)), '11 15', 'The function without a user is public.');
select is(
  (select string_agg(concat_ws(' ', e.id, u.username), ', ' order by e.id)
    from api.relayed_events_after(10, 100) e left join inventory.users u on u.id = e.user_id),
  '11, 12 pgtap ann, 13 pgtap ann, 14 pgtap bob, 15, 16 pgtap ann, 17 pgtap bob',
  'The relay reads everything, and for whom it is.'
);
select is(
  (select array_agg(key) from (select * from api.relayed_events_after(16, 1)) e, json_object_keys(to_json(e)) as key),
  array['type', 'id', 'drop_id', 'user_id', 'data'], 'Its data is the last key.'
);
select is(
  (select array_agg(key) from (select * from api.events_after(15, 1, null, pg_temp.user_id('ann'))) e,
    json_object_keys(to_json(e)) as key),
  array['type', 'id', 'drop_id', 'data'], 'A reader is not told whose an event is.'
);
select is((select e.id from api.snapshot() e), '17', 'A snapshot has the id of the latest event, whoever may see it.');
select is(
  (select array_agg(e ->> 'id') from api.activity() a, json_array_elements(a.events) e), null,
  'Of a drop that is no more nothing is shown.'
);
select is((select a."position" from api.activity() a), '17', 'The position of the activity is the latest event.');

-- The activity of a drop that exists.
do $$
begin
  perform pg_temp.make_users('seller');
  perform pg_temp.make_drop('boots');
  insert into inventory.events (id, drop_id, type, data, user_id) overriding system value
  values
    (18, pg_temp.drop_id('boots'), 'TYPE_18', '{}', null), (19, pg_temp.drop_id('boots'), 'TYPE_19', '{}', pg_temp.user_id('ann'));
end
$$;
select is(
  (select array_agg(e ->> 'id') from api.activity(60, d.drops) a, json_array_elements(a.events) e), '{18}', d.description
)
from (values
  (null::uuid[], 'The activity shows public events only.'), (array[pg_temp.drop_id('boots')], 'So does that of a drop.')
) as d (drops, description);

-- The log is cut off before the newest of the old public events, which everybody has seen.

create function pg_temp.pruned(p_limit integer) returns text language plpgsql as $$
declare
  v_pruned bigint := api.prune_events(60, p_limit);
begin
  return concat_ws(' of ', v_pruned, (select string_agg(e.id::text, ' ' order by e.id) from inventory.events e));
end
$$;
do $$ begin update inventory.events set created_at = now() - interval '1 hour' where id <= 17; end $$;
select is(pg_temp.pruned(v.row_limit), v.expected, v.description)
from (values
  (2, '2 of 13 14 15 16 17 18 19', 'Private events do not keep the log from being pruned.'),
  (1, '1 of 14 15 16 17 18 19', 'Pruning goes on among them.'),
  (100, '1 of 15 16 17 18 19', 'The newest old event that is public stays, and what follows it.'),
  (100, '0 of 15 16 17 18 19', 'Another call finds nothing.')
) as v (row_limit, expected, description);
select is(
  (select array_agg(p.last_id) from inventory.pruned_events p where p.drop_id = md5(v.drop_name)::uuid), v.expected, v.description
)
from (values
  ('shoes', '{11}'::bigint[], 'A reader of a drop has missed what was public,'),
  ('hats', null, 'and not what was for somebody else.')
) as v (drop_name, expected, description);
select is(pg_temp.read(v.after, 100, v.drops, ''), v.expected, v.description)
from (values
  (12, 'shoes', null, 'So a reader of a drop goes on after an event that is gone,'),
  (15, null, '18', 'and a reader of all drops after the newest old one.')
) as v (after, drops, expected, description);

-- What a buyer may do.

create function pg_temp.as_buyer(p_sql text) returns text language plpgsql as $$
declare
  v_answer text;
begin
  perform set_config('request.jwt.claims', json_build_object('sub', pg_temp.user_id('ann'))::text, true);
  perform set_config('role', 'lastpair_buyer', true);
  begin
    execute p_sql into v_answer;
  exception when others then
    v_answer := sqlstate || ' ' || sqlerrm;
  end;
  perform set_config('role', 'none', true);
  return v_answer;
end
$$;
select is(
  pg_temp.as_buyer(format(v.call, pg_temp.user_id(v.name))), v.expected, v.description
)
from (values
  ('select string_agg(id, '' '') from api.events_after(15, 9, null, %L)', 'ann', '16 18 19', 'A buyer reads the own events,'),
  ('select string_agg(id, '' '') from api.events_after(15, 9, null, %L)', 'bob', 'PT403 FORBIDDEN', 'and not another user''s,'),
  ('select count(*) from api.relayed_events_after(15, 9)', 'ann',
    '42501 permission denied for function relayed_events_after', 'nor everybody''s.'),
  ('select length(ticket) from api.create_stream_ticket(%L)', 'ann', '108', 'A buyer makes tickets,'),
  ('select length(ticket) from api.create_stream_ticket(%L)', 'bob', 'PT403 FORBIDDEN', 'but not for another user,'),
  ('select api.redeem_stream_ticket(%L)', 'ann', '42501 permission denied for function redeem_stream_ticket',
    'and cannot try them out.')
) as v (call, name, expected, description);

select * from finish();
rollback;
