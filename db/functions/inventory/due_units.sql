-- inventory.due_units: how many units of a drop, or of one of its variants, belong to ACTIVE reservations and pending purchases
-- that are due.
--
-- Purpose: reads go by the clock. What is due counts as stock, whether or not it has been taken back.
--
-- Locks: none. Errors: none. Plans: as in inventory.drops_with_due.

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
    (
      select r.variant_id, r.qty
      from inventory.reservations r
      where r.status = 'ACTIVE' and r.drop_id = p_drop.id and r.expires_at >= p_drop.nothing_due_before and r.expires_at <= now()
      order by r.expires_at
    )
    union all
    (
      select p.variant_id, p.qty
      from inventory.purchases p
      where p.status = 'pending' and p.drop_id = p_drop.id and p.payment_expires_at >= p_drop.nothing_due_before
        and p.payment_expires_at <= now()
      order by p.payment_expires_at
    )
  ) due
  group by due.variant_id;
end
$$;

comment on function inventory.due_units(inventory.drops) is 'The units of a drop whose holds or payments are due, by variant.';
