-- api.prune_events forgets the beginning of the log and nothing else: who has seen the newest old event can still catch up.
begin;
select plan(23);

-- A log of its own for this test: events 11 to 20, one a minute, the last one of this minute.
create function pg_temp.fill() returns void language sql as $$
  delete from inventory.events;
  insert into inventory.events (id, drop_id, type, data, created_at) overriding system value
  select id, md5('drop')::uuid, 'TYPE', '{}', now() - make_interval(mins => 20 - id) from generate_series(11, 20) as id
$$;

create function pg_temp.log() returns text[] language sql stable as $$
  select array_agg(e.id::text order by e.id) from inventory.events e
$$;

do $$ begin perform pg_temp.fill(); end $$;

select is(api.prune_events(3600), 0::bigint, 'When nothing is old nothing is forgotten.');
select is(api.prune_events(540), 0::bigint, 'An event that is exactly as old as may be is not old.');
select is(api.prune_events(539), 0::bigint, 'The only old event is kept.');
select is(pg_temp.log(), '{11,12,13,14,15,16,17,18,19,20}', 'Up to here everything is there.');
select is(api.prune_events(419), 2::bigint, 'Of three old events the two older ones are forgotten, and counted.');
select is(pg_temp.log(), '{13,14,15,16,17,18,19,20}', 'The newest of the old ones stays,');
select is(
  (select array_agg(e.id) from api.events_after(13) e), '{14,15,16,17,18,19,20}', 'so that whoever has seen it can catch up,'
);
select is(
  (select array_agg(e.type) from api.events_after(11) e), '{RESYNC_REQUIRED}', 'and whoever has seen less is told that he cannot.'
);
select is(api.prune_events(419), 0::bigint, 'A second call finds nothing more.');

-- The limit.

select is(api.prune_events(119, 2), 2::bigint, 'A limit is not exceeded.');
select is(pg_temp.log(), '{15,16,17,18,19,20}', 'It takes the oldest.');
select is(api.prune_events(119, 2), 2::bigint, 'The next call goes on.');
select is(api.prune_events(119, 2), 1::bigint, 'The last one finds less than the limit.');
select is(pg_temp.log(), '{18,19,20}', 'In the end it is as without a limit.');

-- The bounds.

select is(api.prune_events(0, 2147483647), 1::bigint, 'Without retention the newest event that is not of this moment stays.');
select is(pg_temp.log(), '{19,20}', 'What is of this moment stays, too.');
select is(api.prune_events(2147483647), 0::bigint, 'The longest retention there can be forgets nothing.');
select is(pg_temp.refusal(format('select api.prune_events(%s)', v.arguments)), v.expected, v.description)
from (values
  ('-1', 'PT400 VALIDATION_ERROR: p_retention_seconds: must be 0 or more', 'A negative retention is refused.'),
  ('null', 'PT400 VALIDATION_ERROR: p_retention_seconds: must be 0 or more', 'A retention is required.'),
  ('0, 0', 'PT400 VALIDATION_ERROR: p_limit: must be 1 or more', 'A limit of nothing is refused.'),
  ('0, null', 'PT400 VALIDATION_ERROR: p_limit: must be 1 or more', 'A limit of null is refused.')
) as v (arguments, expected, description);

-- A clock that was set back: the log is cut off in one place all the same.
do $$
begin
  perform pg_temp.fill();
  update inventory.events set created_at = now() where id = 13;
  perform api.prune_events(300);
end
$$;
select is(pg_temp.log(), '{14,15,16,17,18,19,20}', 'An event that seems younger than those after it is forgotten with them.');
do $$ begin delete from inventory.events; end $$;
select is(api.prune_events(0), 0::bigint, 'Of an empty log there is nothing to forget.');

select * from finish();
rollback;
