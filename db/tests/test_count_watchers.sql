-- api.count_watchers adds up the streams of all processes, and forgets a process that says nothing for 20 seconds.

begin;
select plan(12);

delete from inventory.watchers;

create function pg_temp.process(p_name text) returns uuid language sql immutable as 'select md5(p_name)::uuid';
create function pg_temp.watchers(p_name text, p_streams integer) returns bigint language sql as $$
  select watchers from api.count_watchers(pg_temp.process(p_name), p_streams)
$$;

select is(pg_temp.watchers('a', 0), 0::bigint, 'Nobody watches.');
select is_empty('table inventory.watchers', 'A process without streams has no row.');
select is(pg_temp.watchers('a', 3), 3::bigint, 'A process counts itself.');
select is(pg_temp.watchers('b', 4), 7::bigint, 'Processes are added up.');
select is(pg_temp.watchers('a', 1), 5::bigint, 'A process that counts again replaces its number.');
select is((select as_of from api.count_watchers(pg_temp.process('c'), 0)), now(), 'The count has a time.');

update inventory.watchers set at = now() - interval '20 seconds' where process_id = pg_temp.process('a');
select is(pg_temp.watchers('c', 0), 5::bigint, 'A process may say nothing for 20 seconds.');
update inventory.watchers set at = now() - interval '20.1 seconds' where process_id = pg_temp.process('a');
select is(pg_temp.watchers('c', 0), 4::bigint, 'After that it counts no more.');
select is(pg_temp.watchers('b', 0), 0::bigint, 'A process whose streams have ended counts no more.');
select is_empty('table inventory.watchers', 'Rows of dead processes, and of those without streams, are deleted.');

select is(
  pg_temp.refusal(format('select api.count_watchers(gen_random_uuid(), %s)', streams)),
  pg_temp.error('VALIDATION_ERROR', 'p_streams: must be 0 or more'), 'A number that makes no sense is refused.'
)
from unnest(array['null', '-1']) as streams;

select * from finish();
rollback;
