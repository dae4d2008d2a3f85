-- inventory.due_units: how many units of a drop, or of one of its variants, are held by ACTIVE reservations that are due.
--
-- Purpose: reads go by the clock. A due hold counts as stock, whether or not it has been taken back.
--
-- Locks: none. Errors: none. Plans: as in inventory.has_due.

create or replace function inventory.due_units(p_drop inventory.drops)
returns table (variant_id uuid, units integer)
language plpgsql stable rows 1
set enable_sort = off
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  return query
  select due.variant_id, sum(due.qty)::integer
  from (
    select r.variant_id, r.qty
    from inventory.reservations r
    where r.status = 'ACTIVE' and r.drop_id = p_drop.id and r.expires_at >= p_drop.nothing_due_before and r.expires_at <= now()
    order by r.expires_at
  ) due
  group by due.variant_id;
end
$$;

comment on function inventory.due_units(inventory.drops) is 'The units of a drop that are held although their holds are due, by variant.';
