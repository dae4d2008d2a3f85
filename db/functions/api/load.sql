-- api.load: how many units wait to be sold on this node: those of live drops that are in stock.
--
-- Purpose: a router puts a new drop where this is least. A drop is live by the clock. Paused ones count, because they go on. Units of
-- holds that are due count once they have been taken back.
--
-- Locks: none. Errors: none. Plans: an index scan of drops_active_idx.

create or replace function api.load()
returns bigint
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(sum(d.available_stock), 0)::bigint
  from inventory.drops d
  where d.status in ('scheduled', 'live') and inventory.status_now(d) = 'live'
$$;

comment on function api.load() is 'For a router: how many units of live drops wait to be sold here.';
