-- api.events_after is how a reader that missed events catches up, without a gap: it gives all that came after one or says that it
-- cannot.
begin;
select plan(46);

-- A log of its own for this test: two events in a transaction that drew ids 14 and 15 and was rolled back are missing.
do $$
begin
  delete from inventory.events;
  insert into inventory.events (id, drop_id, type, data, created_at) overriding system value
  select id, md5('drop')::uuid, 'TYPE_' || id, format('{"n" : %s}', id)::json, '2026-01-02 03:04:05.6789+00'
  from unnest(array[17, 11, 13, 12, 16]) as id; -- put in, and so stored, in another order
end
$$;

-- The ids of the events after this one; or the first one's type, when it is none of the log's.
create function pg_temp.ids_after(p_after bigint, p_limit integer default 1000) returns text[] language sql stable as $$
  select array_agg(case e.type when 'TYPE_' || e.id then e.id else e.type end order by n)
  from rows from (api.events_after(p_after, p_limit)) with ordinality as e (type, id, drop_id, data, n)
$$;

create function pg_temp.resync(p_after bigint) returns text[] language sql stable as $$
  select array[e.type, e.id, e.drop_id::text, e.data::text] from api.events_after(p_after) e
$$;

select is(
  (select array_agg(key) from (select * from api.events_after(16)) e, json_object_keys(to_json(e)) as key),
  array['type', 'id', 'drop_id', 'data'], 'A row is an event with its drop; data is the last key,
    because readers of 0.1 rely on it.'
);
select results_eq(
  'select type, id, drop_id, data::text from api.events_after(16)',
  $$values ('TYPE_17', '17', md5('drop')::uuid, '{"n" : 17,"at":"2026-01-02T03:04:05.678Z"}')$$,
  'An event is given with its type, its id as text, its drop, its data as it was published, and when that was.'
);
select is(pg_temp.ids_after(v.after), v.expected, v.description)
from (values
  (11, '{12,13,16,17}'::text[], 'After the oldest comes the rest, in the order of ids.'),
  (12, '{13,16,17}', 'After one in the middle comes the rest.'),
  (13, '{16,17}', 'Ids that were drawn in vain are no gap.'),
  (14, '{RESYNC_REQUIRED}', 'One of them is no place in the log: a reader that says it has it may have it from a lost log,'),
  (15, '{RESYNC_REQUIRED}', 'and so it is with the next one.'),
  (17, null, 'After the newest comes nothing.'),
  (10, '{11,12,13,16,17}', 'A reader that has seen the one before the oldest has missed nothing but what is there.'),
  (9, '{RESYNC_REQUIRED}', 'A reader that has seen the one before that has missed one that is gone.'),
  (0, '{RESYNC_REQUIRED}', 'A reader that has seen nothing cannot catch up in a log that has lost its beginning.'),
  (-1, '{RESYNC_REQUIRED}', 'An id that is too low to be one is not in the log.'),
  (18, '{RESYNC_REQUIRED}', 'The next one has not been, even if a reader says that it has seen it.'),
  (9223372036854775807, '{RESYNC_REQUIRED}', 'Nor has the highest there can be.'),
  (-9223372036854775808, '{RESYNC_REQUIRED}', 'The lowest there can be is refused in the same way.')
) as v (after, expected, description);
select is(
  pg_temp.resync(v.after),
  array['RESYNC_REQUIRED', v.after::text, null, '{"reason":"The event log does not reach back to the last event you have."}'],
  format('The answer after %s is one event of no drop, with the id that was asked for and the reason.', v.after)
)
from (values (9::bigint), (18)) as v (after);

-- Of some drops only.

do $$
begin
  insert into inventory.events (id, drop_id, type, data) overriding system value
  select id, md5(drop_name)::uuid, 'TYPE_' || id, '{}' from (values (18, 'other'), (19, 'third'), (20, 'other')) as e (id,
    drop_name);
  insert into inventory.pruned_events (drop_id, last_id) values (md5('other')::uuid, 9), (md5('third')::uuid, 10);
  insert into inventory.event_epochs (first_id, lost_after_id, system_identifier, timeline, database_oid) values (9, 5, 0, '', 0);
end
$$;
select is(
  (
    select array_agg(e.id order by n)
    from rows from (api.events_after(v.after, v.limit, array(select md5(d)::uuid from unnest(v.drops) as d)))
      with ordinality as e (type, id, drop_id, data, n)
  ),
  v.expected, v.description
)
from (values
  (11::bigint, 1000, '{other}'::text[], '{18,20}'::text[], 'Of one drop.'),
  (16, 1000, '{drop,other}', '{17,18,20}', 'Of two drops, in the order of ids.'),
  (16, 2, '{other,drop,other}', '{17,18}', 'The limit is one for all of them, and one that is named twice comes once.'),
  (18, 1000, '{other}', '{20}', 'After one of them.'),
  (19, 1000, '{other}', '{20}', 'After one of another drop.'),
  (11, 1000, '{nowhere}', null, 'Of one where nothing happened.'),
  (11, 1000, '{}', null, 'Of none.'),
  (9, 1000, '{other}', '{18,20}', 'A reader of a drop may have an id older than the log, if none of the drop''s events is gone;'),
  (9, 1000, '{other,third}', '{9}', 'if one of them is, it must start again;'),
  (10, 1000, '{other,third}', '{18,19,20}', 'if it has that one, it goes on.'),
  (7, 1000, '{nowhere}', '{7}', 'An old id that was lost is refused,'),
  (5, 1000, '{nowhere}', null, 'but not the newest id of the log when the epoch began.'),
  (14, 1000, '{nowhere}', '{14}', 'An id within the log that no event has is refused for a drop, too.')
) as v (after, "limit", drops, expected, description);
do $$
begin
  delete from inventory.events where id > 17;
end
$$;

-- The limit.

select is(pg_temp.ids_after(v.after, v.limit), v.expected, v.description)
from (values
  (11::bigint, 1, '{12}'::text[], 'A limit takes the oldest of what comes after.'),
  (11, 3, '{12,13,16}', 'Ids drawn in vain do not count.'),
  (11, 4, '{12,13,16,17}', 'A limit may be just enough,'),
  (11, 2147483647, '{12,13,16,17}', 'and it may be as high as can be.'),
  (null, 1, '{17}', 'After null comes the latest event,'),
  (null, 3, '{13,16,17}', 'or the latest ones, the newest last,'),
  (null, 100, '{11,12,13,16,17}', 'or all there are.'),
  (9, 1, '{RESYNC_REQUIRED}', 'A limit does not cut the refusal off.')
) as v (after, "limit", expected, description);
select is(
  pg_temp.refusal(format('select api.events_after(11, %s)', p_limit)), 'PT400 VALIDATION_ERROR: p_limit: must be 1 or more',
  format('A limit of %s is refused.', p_limit)
)
from unnest(array['0', '-1', 'null']) as p_limit;
do $$
begin
  insert into inventory.events (id, drop_id, type, data) overriding system value
  select id, md5('drop')::uuid, 'TYPE_' || id, '{}' from generate_series(18, 1200) as id;
end
$$;
select is((select count(*) from api.events_after(11)), 1000::bigint, 'Without a limit there is a sensible one.');

-- A log that has its beginning, and one that is empty.

do $$
begin
  delete from inventory.events;
  insert into inventory.events (id, drop_id, type, data) overriding system value
  select id, md5('drop')::uuid, 'TYPE_' || id, '{}' from generate_series(1, 3) as id;
end
$$;
select is(pg_temp.ids_after(0), '{1,2,3}', 'A reader that has seen nothing gets all of a log that has its beginning.');
do $$ begin delete from inventory.events; end $$;
select is(
  array[pg_temp.ids_after(0)::text, pg_temp.ids_after(null)::text, pg_temp.ids_after(1)::text],
  array[null, null, '{RESYNC_REQUIRED}'], 'Of an empty log nothing was missed, unless something was seen before.'
);
select is(
  (select e.type from api.events_after(v.after, 1000, array[md5('drop')::uuid]) e), v.expected,
  format('It is the same for a reader of a drop that has seen %s.', v.after)
)
from (values (0, null), (1, 'RESYNC_REQUIRED')) as v (after, expected);

select * from finish();
rollback;
