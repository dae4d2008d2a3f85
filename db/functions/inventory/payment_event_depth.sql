-- inventory.payment_event_depth: what has to be locked before a payment may change as this event says.
--
--   2   the drops, because units go back or are taken again; then the purchases and the payment. So it is for money of a drop that
--       was cancelled, because all units of its basket go back
--   1   the purchases, because they are paid, which a refund of a part tells as well; then the payment
--   0   the payment
--
-- Locks: none. Errors: none.

create or replace function inventory.payment_event_depth(p_event api.payment_event, p_payment inventory.payments)
returns integer
language sql stable
as $$
  select case
    when p_event.status = 'refunded' and p_payment.status <> 'refunded'
      and coalesce(p_event.refunded_amount >= p_payment.amount, true) then 2
    when p_event.status in ('paid', 'refunded') and inventory.is_open(p_payment) and not inventory.is_cancelled(p_payment) then 1
    when p_event.status in ('paid', 'refunded') and p_payment.status in ('pending', 'failed', 'cancelled') then 2
    when p_event.status = 'cancelled' and p_payment.status in ('pending', 'failed') then 2
    else 0
  end
$$;

comment on function inventory.payment_event_depth(api.payment_event, inventory.payments) is
'What has to be locked for this event: 2: drops, purchases and the payment; 1: purchases and the payment; 0: the payment.';
