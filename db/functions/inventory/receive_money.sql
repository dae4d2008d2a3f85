-- inventory.receive_money: a payment that was not known to be paid was paid. Its purchases are paid, or the money goes back.
--
-- Purpose: a step of api.record_payment_event. If the payment was cancelled, the units are taken again
-- (inventory.take_units_again). If that is not possible, or if a drop of it was cancelled, the money came too late: the provider is
-- told to pay back what is left of it, and the answer is false.
--
-- Locks: the caller holds those of inventory.payment_event_depth; the calls. Errors: none. Plans: the caller's settings are in force.

create or replace function inventory.receive_money(p_payment inventory.payments)
returns boolean
language plpgsql
as $$
begin
  perform inventory.drop_calls(p_payment.id, array['cancel']);
  if
    inventory.is_open(p_payment) and not inventory.is_cancelled(p_payment)
    or inventory.take_units_again(p_payment)
  then
    update inventory.purchases p
    set status = 'paid', updated_at = now()
    where p.payment_id = p_payment.id;
    update inventory.payments y
    set status = 'paid', paid_at = now(), updated_at = now()
    where y.id = p_payment.id;
    return true;
  end if;
  update inventory.payments y set paid_at = now() where y.id = p_payment.id;
  perform inventory.refund_payments(array[p_payment.id], array[p_payment.amount]);
  return false;
end
$$;

comment on function inventory.receive_money(inventory.payments) is
'Let a payment be paid, or refund it because the money came too late. Return whether it is paid.';
