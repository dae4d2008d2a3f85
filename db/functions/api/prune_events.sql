-- api.prune_events: delete the oldest events, those older than p_retention_seconds and at most p_limit; return their number.
--
-- The newest of the old public events stays, and private ones after it, so a reader who has seen it has missed nothing that is
-- public. The deleted events are always the beginning of the log, so the oldest event that is left tells whether a reader's position
-- is still in the log. inventory.pruned_events keeps the newest deleted id of the public events of each drop, for readers of a drop on
-- which nothing happened for long (api.events_after), and the stock that was told last, for charts (api.activity).
--
-- Locks: the events that it deletes, then the rows of inventory.pruned_events in the order of the drops' ids. Two calls wait for
-- each other, because both begin with the oldest events.
-- Errors: VALIDATION_ERROR (p_retention_seconds, p_limit).
--
-- Plans: see db/README.md, 'Plans'. Here rows are deleted by their place in the table (ctid), which is safe because an event is
-- never updated. A condition on their ids could use either index, and the statistics would decide which one.

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
    select o.ctid as place, o.id from inventory.events o order by o.id limit p_limit
  ),
  oldest_public as materialized (
    select o.id, o.created_at from inventory.events o where o.user_id is null order by o.id limit p_limit::bigint + 1
  ),
  pruned as (
    delete from inventory.events e
    where e.ctid = any (array(
      select o.place
      from oldest o
      where o.id < (select max(id) from oldest_public where created_at < now() - make_interval(secs => p_retention_seconds))
    ))
    returning e.drop_id, e.id, e.type, e.data, e.user_id, e.created_at
  ),
  told as (
    select p.drop_id, p.id, p.created_at, inventory.told_stock(p.type, p.data) as stock
    from pruned p
    where p.user_id is null
  ),
  noted as (
    insert into inventory.pruned_events as n (drop_id, last_id, available_stock, stock_at)
    select
      t.drop_id, max(t.id), (array_agg(t.stock order by t.id desc) filter (where t.stock is not null))[1],
      (array_agg(t.created_at order by t.id desc) filter (where t.stock is not null))[1]
    from told t
    group by t.drop_id
    order by t.drop_id
    on conflict (drop_id) do update
    set
      last_id = greatest(n.last_id, excluded.last_id),
      available_stock = coalesce(excluded.available_stock, n.available_stock),
      stock_at = coalesce(excluded.stock_at, n.stock_at)
  )
  select count(*) into v_pruned from pruned;
  return v_pruned;
end
$$;

comment on function api.prune_events(integer, integer) is
'Delete events older than p_retention_seconds, the oldest first and at most p_limit, and return their number.';
