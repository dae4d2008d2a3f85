-- inventory.listed_drops: these drops as api.list_drops shows them, in the same order, each with its activity.
--
-- Locks: none. Errors: none.
--
-- Plans: it is a function of its own because its plan is kept, and that of api.list_drops is made anew for each call.

create or replace function inventory.listed_drops(p_drops inventory.drops[])
returns table (listed api.drop_row, activity_feed json)
language plpgsql stable
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  return query
  select shown, activity.feed
  from (select unnest(p_drops) as drop, generate_series(1, cardinality(p_drops)) as n) d
  cross join lateral inventory.drop_row(d.drop) shown -- not (drop_row(…)).*, which would call it once for each column
  cross join lateral inventory.activity_feed((d.drop).id) activity
  order by d.n;
end
$$;

comment on function inventory.listed_drops(inventory.drops[]) is 'These drops as api.list_drops shows them, each with its activity.';
