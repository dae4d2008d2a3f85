-- inventory.refund: refund these paid purchases of one drop, or p_qty units of each, and give the units back to stock.
--
-- Purpose: the one implementation of refunds; api.refund_purchase calls it for one purchase, api.refund_drop for many,
-- api.record_payment_event for what was refunded at the provider. p_qty null: all units that are left. A row of the answer has
-- the purchase as it is then, the units that were refunded now, and what they cost.
--
-- Locks: the caller holds the drop's row, and has locked the purchases. Errors: none. Plans: see db/README.md, 'Plans'.

create or replace function inventory.refund(p_drop_id uuid, p_purchase_ids uuid[], p_qty integer default null)
returns table (purchase inventory.purchases, units integer, amount numeric)
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_ids uuid[];
  v_units integer[];
begin
  select array_agg(p.id), array_agg(coalesce(p_qty, p.qty - p.refunded_qty)) into v_ids, v_units
  from inventory.purchases p
  where p.id = any (p_purchase_ids) and p.drop_id = p_drop_id and p.status <> all (array['failed', 'cancelled', 'refunded']);
  return query
  with refunded as (
    update inventory.purchases p
    set
      status = case when p.refunded_qty + v_units[array_position(v_ids, p.id)] = p.qty then 'refunded' else p.status end,
      refunded_qty = p.refunded_qty + v_units[array_position(v_ids, p.id)],
      refunded_amount = coalesce(p.refunded_amount, 0) + v_units[array_position(v_ids, p.id)] * p.unit_price,
      refunded_at = now(),
      updated_at = now()
    where p.id = any (v_ids) and p.drop_id = p_drop_id
    returning p as purchase, p.variant_id, v_units[array_position(v_ids, p.id)] as units, p.unit_price
  ),
  restored as (
    update inventory.drops d
    set available_stock = d.available_stock + (select sum(r.units) from refunded r), updated_at = now()
    where d.id = p_drop_id and exists (select from refunded)
  ),
  variants_restored as (
    update inventory.variants v
    set available_stock = v.available_stock + back.units, updated_at = now()
    from (select r.variant_id, sum(r.units) as units from refunded r where r.variant_id is not null group by r.variant_id) back
    where v.drop_id = p_drop_id and v.id = back.variant_id
  )
  select r.purchase, r.units, r.units * r.unit_price from refunded r;
end
$$;

comment on function inventory.refund(uuid, uuid[], integer) is
'Refund paid purchases of a drop, or p_qty units of each, and give the units back to stock. The caller holds the locks.';
