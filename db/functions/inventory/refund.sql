-- inventory.refund: refund all of these paid purchases of one drop and give their units back to stock.
--
-- Purpose: the one implementation of refunds; api.refund_purchase calls it for one purchase, api.refund_drop for many.
--
-- Locks: the caller holds the drop's row, and has locked the purchases. Errors: none.

create or replace function inventory.refund(p_drop_id uuid, p_purchase_ids uuid[])
returns setof inventory.purchases
language sql
set enable_seqscan = off
set enable_bitmapscan = off
as $$
  with refunded as (
    update inventory.purchases p
    set status = 'refunded', refunded_amount = p.amount, refunded_at = now(), updated_at = now()
    where p.id = any (p_purchase_ids) and p.drop_id = p_drop_id and p.status = 'paid'
    returning p.*
  ),
  restored as (
    update inventory.drops d
    set available_stock = d.available_stock + (select sum(r.qty) from refunded r), updated_at = now()
    where d.id = p_drop_id and exists (select from refunded)
  ),
  variants_restored as (
    update inventory.variants v
    set available_stock = v.available_stock + back.units, updated_at = now()
    from (select r.variant_id, sum(r.qty) as units from refunded r where r.variant_id is not null group by r.variant_id) back
    where v.drop_id = p_drop_id and v.id = back.variant_id
  )
  select * from refunded
$$;

comment on function inventory.refund(uuid, uuid[]) is
'Refund paid purchases of a drop and give their units back to stock. The caller holds the locks.';
