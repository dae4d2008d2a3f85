-- api.prune_events forgets the beginning of the log and nothing else: a reader of the newest old event can still catch up.
begin;
select plan(18);

-- A log of its own for this test: events 11 to 20, one a minute, the last one of this minute.
create function pg_temp.fill() returns void language sql as $$
  delete from inventory.events;
  insert into inventory.events (id, drop_id, type, data, created_at) overriding system value
  select id, md5('drop')::uuid, 'TYPE', '{}', now() - make_interval(mins => 20 - id) from generate_series(11, 20) as id
$$;

-- How many events a call forgets, and the ids of the others.
create function pg_temp.pruned(p_retention_seconds integer, p_limit integer default 10000) returns text language plpgsql as $$
declare
  v_pruned bigint := api.prune_events(p_retention_seconds, p_limit);
begin
  return concat_ws(' of ', v_pruned, (select string_agg(e.id::text, ' ' order by e.id) from inventory.events e));
end
$$;

do $$ begin perform pg_temp.fill(); end $$;
select is(pg_temp.pruned(v.retention_seconds, v.row_limit), v.expected, v.description)
from (values
  (3600, 10000, '0 of 11 12 13 14 15 16 17 18 19 20', 'When nothing is old nothing is forgotten.'),
  (540, 10000, '0 of 11 12 13 14 15 16 17 18 19 20', 'An event that is exactly as old as may be is not old.'),
  (539, 10000, '0 of 11 12 13 14 15 16 17 18 19 20', 'The only old event is kept.'),
  (419, 10000, '2 of 13 14 15 16 17 18 19 20', 'Of three old events the two older ones are forgotten, and counted.'),
  (419, 10000, '0 of 13 14 15 16 17 18 19 20', 'A second call finds nothing more.')
) as v (retention_seconds, row_limit, expected, description);
select is(
  (select array_agg(e.id) from api.events_after(13) e), '{14,15,16,17,18,19,20}',
  'The newest of the old events stays, so that a reader who has seen it can catch up.'
);
select is(
  (select array_agg(e.type) from api.events_after(11) e), '{RESYNC_REQUIRED}', 'A reader who has seen less is told to start anew.'
);
select is(pg_temp.pruned(v.retention_seconds, v.row_limit), v.expected, v.description)
from (values
  (119, 2, '2 of 15 16 17 18 19 20', 'A limit is not exceeded, and takes the oldest.'),
  (119, 2, '2 of 17 18 19 20', 'The next call goes on.'),
  (119, 2, '1 of 18 19 20', 'The last one finds less than the limit; in the end it is as without a limit.'),
  (0, 2147483647, '1 of 19 20', 'Without retention the newest event before this moment stays, and those of this moment.'),
  (2147483647, 10000, '0 of 19 20', 'The longest retention there can be forgets nothing.')
) as v (retention_seconds, row_limit, expected, description);
select is(
  pg_temp.refusal(format('select api.prune_events(%s)', v.options)), pg_temp.error('VALIDATION_ERROR', v.sentence), v.description
)
from (values
  ('-1', 'p_retention_seconds: must be 0 or more', 'A negative retention is refused.'),
  ('null', 'p_retention_seconds: must be 0 or more', 'A retention is required.'),
  ('0, 0', 'p_limit: must be 1 or more', 'A limit of nothing is refused.'),
  ('0, null', 'p_limit: must be 1 or more', 'A limit of null is refused.')
) as v (options, sentence, description);

-- A clock that was set back: the log is cut off in one place all the same.
do $$
begin
  perform pg_temp.fill();
  update inventory.events set created_at = now() where id = 13;
end
$$;
select is(
  pg_temp.pruned(300), '3 of 14 15 16 17 18 19 20', 'An event that seems younger than those after it is forgotten with them.'
);
do $$ begin delete from inventory.events; end $$;
select is(pg_temp.pruned(0), '0', 'Of an empty log there is nothing to forget.');

select * from finish();
rollback;
