-- inventory.cancel_all_holds: cancel every ACTIVE reservation of a drop and return how many units they held. One that is due
-- becomes EXPIRED instead, as it would have with a sweep a moment before.
--
-- Purpose: a step of api.update_drop, when the drop is cancelled. It gives the units back to the variants. The stock of the drop
-- is the caller's to change, together with the rest of the row.
--
-- Locks: the caller holds the drop's row; the ACTIVE reservations in the order of their ids. Errors: none.

create or replace function inventory.cancel_all_holds(p_drop_id uuid)
returns integer
language plpgsql
as $$
declare
  v_units integer;
begin
  with locked as materialized (
    select r.id
    from inventory.reservations r
    where r.drop_id = p_drop_id and r.status = 'ACTIVE' and r.expires_at >= '-infinity' -- for reservations_due_idx
    order by r.id
    for no key update
  ),
  cancelled as (
    update inventory.reservations r
    set status = case when r.expires_at <= now() then 'EXPIRED' else 'CANCELLED' end, updated_at = now()
    where r.id in (select l.id from locked l) and r.drop_id = p_drop_id
    returning r.variant_id, r.qty
  ),
  variants_restored as (
    update inventory.variants v
    set available_stock = v.available_stock + back.units, updated_at = now()
    from (select c.variant_id, sum(c.qty) as units from cancelled c where c.variant_id is not null group by c.variant_id) back
    where v.drop_id = p_drop_id and v.id = back.variant_id
  )
  select coalesce(sum(c.qty), 0) into v_units from cancelled c;
  return v_units;
end
$$;

comment on function inventory.cancel_all_holds(uuid) is
'Cancel every ACTIVE reservation of a drop and return how many units they held. The caller holds the drop''s lock.';
