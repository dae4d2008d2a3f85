-- api.prune_events: forget the oldest events, those older than p_retention_seconds and at most p_limit; returns how many.
--
-- Locks: the events it deletes. Two calls wait for each other, so that only a beginning of the log is ever missing, and whether a
-- reader's place is still in it can be told from its oldest event. Errors: VALIDATION_ERROR (p_retention_seconds, p_limit).
--
-- The newest of the old events stays: who has seen it has missed nothing of what was pruned. Rows are deleted by their place in the
-- table, as events never move: a condition on their ids may walk either index, and which one would change with the statistics.

create or replace function api.prune_events(p_retention_seconds integer, p_limit integer default 10000)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_pruned bigint;
begin
  if p_retention_seconds is null or p_retention_seconds < 0 then
    perform inventory.refuse('VALIDATION_ERROR', 'p_retention_seconds: must be 0 or more');
  end if;
  if p_limit is null or p_limit < 1 then
    perform inventory.refuse('VALIDATION_ERROR', 'p_limit: must be 1 or more');
  end if;
  with oldest as materialized (
    select o.ctid as place, o.id, o.created_at from inventory.events o order by o.id limit p_limit::bigint + 1
  )
  delete from inventory.events e
  where e.ctid = any (array(
    select o.place
    from oldest o
    where o.id < (select max(id) from oldest where created_at < now() - make_interval(secs => p_retention_seconds))
  ));
  get diagnostics v_pruned = row_count;
  return v_pruned;
end
$$;

comment on function api.prune_events(integer, integer) is
'Forget events older than p_retention_seconds, the oldest first and at most p_limit; returns how many.';
