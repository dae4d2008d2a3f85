-- inventory.expect_due_at: something of these drops is due at these times, so the search for what is due begins there if it began
-- later. A drop may be named several times.
--
-- Purpose: the triggers call it for rows that are written by hand. Of new holds inventory.write_holds sees to it.
--
-- Locks: the rows of the drops, in the order of their ids. Errors: none.

create or replace function inventory.expect_due_at(p_drop_ids uuid[], p_times timestamptz[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- The locks come first, because a reserve may have set a later time and not committed it yet.
  perform from inventory.drops d where d.id = any(p_drop_ids) order by d.id for no key update;
  update inventory.drops d
  set nothing_due_before = due.first_time
  from (
    select e.drop_id, min(e.at) as first_time from unnest(p_drop_ids, p_times) as e(drop_id, at) group by e.drop_id
  ) due
  where d.id = due.drop_id and d.nothing_due_before > due.first_time;
end
$$;

comment on function inventory.expect_due_at(uuid[], timestamptz[]) is
'Let the search for what is due on these drops begin at these times, if it began later.';
