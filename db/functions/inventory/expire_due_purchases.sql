-- inventory.expire_due_purchases: cancel the pending purchases of a drop whose payment is due, at most p_limit, and give their
-- units back to the drop.
--
-- Purpose: the one implementation; reserves, sweeps and changes of the stock call it. It touches one drop only, also if a payment
-- is that of a basket: the payment is cancelled with the first of its purchases, the others follow when their drops are looked
-- at. Until then they are cancelled by the clock.
--
-- Locks: the caller holds the drop's row; the purchases and their payments, with skip locked. Errors: none.
-- Plans: as in inventory.expire_due.

create or replace function inventory.expire_due_purchases(p_drop inventory.drops, p_limit integer)
returns integer
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_ids uuid[] := inventory.lock_due_purchases(p_drop, p_limit);
  v_payment_ids uuid[];
begin
  if v_ids = '{}' then
    return 0;
  end if;
  with expired as (
    update inventory.purchases p
    set status = 'cancelled', updated_at = now()
    where p.id = any (v_ids) and p.drop_id = p_drop.id
    returning p.variant_id, p.qty, p.payment_id
  ),
  restored as (
    update inventory.drops d
    set available_stock = d.available_stock + (select sum(e.qty) from expired e), updated_at = now()
    where d.id = p_drop.id and exists (select from expired)
  ),
  variants_restored as (
    update inventory.variants v
    set available_stock = v.available_stock + back.units, updated_at = now()
    from (select e.variant_id, sum(e.qty) as units from expired e where e.variant_id is not null group by e.variant_id) back
    where v.drop_id = p_drop.id and v.id = back.variant_id
  )
  select array_agg(distinct e.payment_id) into v_payment_ids from expired e;
  perform inventory.end_payments(v_payment_ids);
  return cardinality(v_ids);
end
$$;

comment on function inventory.expire_due_purchases(inventory.drops, integer) is
'Cancel the pending purchases of a drop whose payment is due, and give their units back. The caller holds the drop''s lock.';
