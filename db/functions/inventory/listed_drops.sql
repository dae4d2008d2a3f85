-- inventory.listed_drops: these drops as api.list_drops and api.snapshot show them, in the same order, each with its activity.
--
-- Locks: none. Errors: none.
--
-- Plans: as in inventory.drop_rows.

create or replace function inventory.listed_drops(p_drops inventory.drops[])
returns table (listed api.drop_row, activity_feed json)
language plpgsql stable
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  return query
  select d, activity.feed
  from inventory.drop_rows(p_drops) d
  cross join lateral inventory.activity_feed(d.id) activity;
end
$$;

comment on function inventory.listed_drops(inventory.drops[]) is 'These drops as api.list_drops shows them, each with its activity.';
