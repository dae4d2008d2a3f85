-- inventory.cancel_payments: cancel those of these payments that are not paid yet, and give the units of their purchases back to
-- stock.
--
-- Purpose: the one implementation of cancelling. A payment that was taken back in part, because it is due, is finished.
-- With p_tells_provider the provider is to be told; it is not when the provider has said so itself.
--
-- Locks: the caller holds the rows of the drops of these payments. The purchases, then the payments, in the order of their ids.
-- Errors: none. Plans: see db/README.md, 'Plans'.

create or replace function inventory.cancel_payments(p_payment_ids uuid[], p_tells_provider boolean default true)
returns void
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  perform from inventory.purchases p where p.payment_id = any (p_payment_ids) order by p.id for no key update;
  with cancelled as (
    update inventory.purchases p
    set status = 'cancelled', updated_at = now()
    where p.payment_id = any (p_payment_ids) and p.status <> all (array['paid', 'failed', 'cancelled', 'refunded'])
    returning p.drop_id, p.variant_id, p.qty
  ),
  restored as (
    update inventory.drops d
    set available_stock = d.available_stock + (select sum(c.qty) from cancelled c where c.drop_id = d.id), updated_at = now()
    where d.id = any (array(select c.drop_id from cancelled c))
  )
  update inventory.variants v
  set
    available_stock = v.available_stock
      + (select sum(c.qty) from cancelled c where c.variant_id = v.id and c.drop_id = v.drop_id),
    updated_at = now()
  where v.drop_id = any (array(select c.drop_id from cancelled c)) and v.id = any (array(select c.variant_id from cancelled c));
  perform inventory.end_payments(p_payment_ids, p_tells_provider);
end
$$;

comment on function inventory.cancel_payments(uuid[], boolean) is
'Cancel those of these payments that are not paid, and give their units back. The caller holds the drops'' locks.';
