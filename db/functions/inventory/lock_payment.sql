-- inventory.lock_payment: lock a payment and return it as it is then; before it, its purchases (p_depth 1), and before these its
-- drops (p_depth 2).
--
-- Locks, in this order: the drops in the order of their ids; the purchases in the order of their ids; the payment. Errors: none.
-- Plans: see db/README.md, 'Plans'.

create or replace function inventory.lock_payment(p_payment_id uuid, p_depth integer)
returns inventory.payments
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_payment inventory.payments;
begin
  if p_depth > 1 then
    perform
    from inventory.drops d
    where d.id = any (array(select p.drop_id from inventory.purchases p where p.payment_id = p_payment_id))
    order by d.id
    for no key update;
  end if;
  if p_depth > 0 then
    perform from inventory.purchases p where p.payment_id = p_payment_id order by p.id for no key update;
  end if;
  select * into v_payment from inventory.payments y where y.id = p_payment_id for no key update;
  return v_payment;
end
$$;

comment on function inventory.lock_payment(uuid, integer) is
'Lock a payment, before it its purchases (p_depth 1), before these its drops (p_depth 2), and return it.';
