-- inventory.listed_drops: these drops as api.list_drops and api.snapshot show them, in the same order, each with its activity.
--
-- Locks: none. Errors: none.
--
-- Plans: the plan of this function is kept; that of api.list_drops is made anew for each call.

create or replace function inventory.listed_drops(p_drops inventory.drops[])
returns table (listed api.drop_row, activity_feed json)
language plpgsql stable
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  return query
  select d.row, activity.feed
  from (select r as row, row_number() over () as n from inventory.drop_rows(p_drops) r) d
  cross join lateral inventory.activity_feed((d.row).id) activity
  order by d.n;
end
$$;

comment on function inventory.listed_drops(inventory.drops[]) is 'These drops as api.list_drops shows them, each with its activity.';
