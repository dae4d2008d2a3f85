-- inventory.is_cancelled: whether a drop was cancelled that this payment is for.
--
-- Locks: none. Errors: none. Plans: see db/README.md, 'Plans'.

create or replace function inventory.is_cancelled(p_payment inventory.payments)
returns boolean
language plpgsql stable
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  return exists (
    select
    from inventory.drops d
    where d.id = any (array(select p.drop_id from inventory.purchases p where p.payment_id = p_payment.id))
      and d.status = 'cancelled'
  );
end
$$;

comment on function inventory.is_cancelled(inventory.payments) is 'Was a drop cancelled that this payment is for?';
