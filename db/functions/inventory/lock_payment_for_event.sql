-- inventory.lock_payment_for_event: lock what this event of a provider may change, and return the payment as it is then.
--
-- Purpose: most events tell that a payment in time was paid. That changes no stock, so it does not lock the drop. If the payment
-- has changed by the time that it is locked, more must be locked, and locks have an order: then this function gives up what it
-- has locked, as undoing a block does, and begins again with the drops.
--
-- Locks: as inventory.lock_payment takes them. Errors: none.

create or replace function inventory.lock_payment_for_event(p_event api.payment_event, p_payment_id uuid)
returns inventory.payments
language plpgsql
as $$
declare
  v_payment inventory.payments;
  v_depth integer;
begin
  select * into v_payment from inventory.payments y where y.id = p_payment_id;
  v_depth := inventory.payment_event_depth(p_event, v_payment);
  if v_depth = 2 then
    return inventory.lock_payment(p_payment_id, 2);
  end if;
  begin
    v_payment := inventory.lock_payment(p_payment_id, v_depth);
    if inventory.payment_event_depth(p_event, v_payment) <= v_depth then
      return v_payment;
    end if;
    raise exception using errcode = 'LPUND', message = 'undo this block';
  exception when sqlstate 'LPUND' then
    return inventory.lock_payment(p_payment_id, 2);
  end;
end
$$;

comment on function inventory.lock_payment_for_event(api.payment_event, uuid) is
'Lock what this event of a provider may change, and return the payment as it is then.';
