-- api.count_watchers: note how many streams a process of the service has open, and return how many all processes have.
--
-- Purpose: every process calls it every 5 seconds. A process that is dead says nothing more, so its row counts for 20 seconds and
-- is deleted then. A process without streams needs no row, so the table is not written while nobody watches.
--
-- Locks: the row of the process, then old rows. It skips those that another call has locked, so no call waits while it holds a lock.
-- Errors: VALIDATION_ERROR (p_process_id, p_streams).

create or replace function api.count_watchers(p_process_id uuid, p_streams integer, out watchers bigint, out as_of timestamptz)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_dead_at constant timestamptz := now() - interval '20 seconds';
begin
  if p_process_id is null then
    perform inventory.refuse('VALIDATION_ERROR', 'p_process_id: must be given');
  elsif p_streams is null or p_streams < 0 then
    perform inventory.refuse('VALIDATION_ERROR', 'p_streams: must be 0 or more');
  end if;
  if p_streams > 0 then
    insert into inventory.watchers as w (process_id, streams) values (p_process_id, p_streams)
    on conflict (process_id) do update set streams = excluded.streams, at = excluded.at;
  end if;
  delete from inventory.watchers w
  where w.process_id in (
    select o.process_id from inventory.watchers o
    where o.at < v_dead_at or (o.process_id = p_process_id and p_streams = 0)
    for update skip locked
  );
  watchers := (select coalesce(sum(w.streams), 0) from inventory.watchers w where w.at >= v_dead_at);
  as_of := now();
end
$$;

comment on function api.count_watchers(uuid, integer) is
'Note how many streams a process has open, and return how many all processes have. A process that says nothing for 20 seconds is forgotten.';
