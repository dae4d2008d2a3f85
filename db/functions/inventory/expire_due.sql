-- inventory.expire_due: mark the due reservations among these EXPIRED and give their units back to the drop.
--
-- Locks: the caller holds the drop's row. The reservations are locked with skip locked: one that a purchase has locked at this
-- moment is left to the purchase, so that one buyer's forgotten open transaction cannot stop the sale. Errors: none.
--
-- Plans: the id is matched with = any (array) and the status with <> all, because no partial index can serve those. The primary
-- key is the only possible plan, however old the cached plan is and however empty the table was when it was made.

create or replace function inventory.expire_due(p_drop_id uuid, p_reservation_ids uuid[])
returns setof api.reservation_row
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  if coalesce(cardinality(p_reservation_ids), 0) = 0 then
    return;
  end if;
  return query
  with due as materialized (
    select r.id
    from inventory.reservations r
    where r.id = any (p_reservation_ids) and r.drop_id = p_drop_id
      and r.status <> all (array['EXPIRED', 'CANCELLED', 'CONSUMED']) and r.expires_at <= now()
    for no key update skip locked
  ),
  expired as (
    update inventory.reservations r
    set status = 'EXPIRED', updated_at = now()
    where r.id = any (array(select due.id from due)) and r.drop_id = p_drop_id
    returning r.*
  ),
  restored as (
    update inventory.drops d
    set available_stock = d.available_stock + (select sum(e.qty) from expired e), updated_at = now()
    where d.id = p_drop_id and exists (select from expired)
  ),
  variants_restored as (
    update inventory.variants v
    set available_stock = v.available_stock + back.units, updated_at = now()
    from (select e.variant_id, sum(e.qty) as units from expired e where e.variant_id is not null group by e.variant_id) back
    where v.drop_id = p_drop_id and v.id = back.variant_id
  )
  select (inventory.reservation_row(e)).* from expired e;
end
$$;

comment on function inventory.expire_due(uuid, uuid[]) is
'Mark the due reservations among these EXPIRED and give their units back. The caller holds the drop''s lock.';
