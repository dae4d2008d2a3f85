-- inventory.refund_payments: note that these amounts of these payments are refunded, and write that the providers are to pay them
-- back.
--
-- Purpose: a step of api.refund_purchase and api.refund_drop, after inventory.refund. No more is paid back than is left of a
-- payment, because some of it may have been refunded at the provider. A payment of which nothing is left, but some units are still
-- sold, stays paid: when the provider tells that all was refunded, api.record_payment_event refunds them, because it can lock their
-- drops.
--
-- Locks: the caller has locked their purchases. The payments in the order of their ids. Errors: none. Plans: see db/README.md,
-- 'Plans'.
-- What is still sold is counted, because `exists` would make the plan depend on the size of the table.

create or replace function inventory.refund_payments(p_payment_ids uuid[], p_amounts numeric[])
returns void
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_back numeric[]; -- of each payment
begin
  v_back := array(
    select least(p_amounts[array_position(p_payment_ids, y.id)], y.amount - y.refunded_amount)
    from inventory.payments y
    where y.id = any (p_payment_ids)
    order by y.id
    for no key update
  );
  with refunded as (
    update inventory.payments y
    set
      refunded_amount = y.refunded_amount + v_back[array_position(p_payment_ids, y.id)],
      status = case
        when y.refunded_amount + v_back[array_position(p_payment_ids, y.id)] = y.amount
          and (
            select count(*) from inventory.purchases p
            where p.payment_id = y.id and p.status <> all (array['failed', 'cancelled', 'refunded'])) = 0
          then 'refunded'
        else y.status
      end,
      updated_at = now()
    where y.id = any (p_payment_ids)
    returning y.id, y.drop_id
  )
  insert into inventory.provider_calls (drop_id, payment_id, action, amount)
  select r.drop_id, r.id, 'refund', v_back[array_position(p_payment_ids, r.id)]
  from refunded r
  where v_back[array_position(p_payment_ids, r.id)] > 0
  order by r.id;
end
$$;

comment on function inventory.refund_payments(uuid[], numeric[]) is
'Note that these amounts of these payments, in the order of their ids, are refunded, and write that the providers are to
pay them back.';
