-- inventory.has_due: whether an ACTIVE reservation of this drop is due, so that it can be taken back.
--
-- Purpose: the calling function learns without any lock whether it is worth locking the drop.
--
-- Locks: none. Errors: none.
--
-- Plans: see db/README.md, 'Plans'. Here sorting is disabled too, so that reservations_due_idx is the only plan: it has the rows
-- of a drop in the order of expires_at. The search begins at nothing_due_before. Otherwise it would visit the index entry of
-- every hold that was sold since the oldest snapshot.

create or replace function inventory.has_due(p_drop inventory.drops)
returns boolean
language plpgsql stable
set enable_sort = off
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  perform
  from inventory.reservations r
  where r.status = 'ACTIVE' and r.drop_id = p_drop.id and r.expires_at >= p_drop.nothing_due_before and r.expires_at <= now()
  order by r.expires_at
  limit 1;
  return found;
end
$$;

comment on function inventory.has_due(inventory.drops) is 'Is an ACTIVE reservation of this drop due?';
