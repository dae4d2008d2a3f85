-- inventory.has_due: does a hold on this drop have run out and still have its unit?
--
-- Purpose: to know without locking anything whether it is worth the drop's lock. Locks: none. Errors: none.
--
-- Sorting and sequential scans are disabled so that reservations_due_idx is the only plan: a drop starts with empty tables, and
-- a plan chosen then would be kept for the session's life.

create or replace function inventory.has_due(p_drop_id uuid)
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
  where r.status = 'ACTIVE' and r.drop_id = p_drop_id and r.expires_at <= now()
  order by r.expires_at
  limit 1;
  return found;
end
$$;

comment on function inventory.has_due(uuid) is 'Is an ACTIVE reservation of this drop due?';
