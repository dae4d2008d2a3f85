-- inventory.purchase_row: turn a row of purchases into the row that the API shows, as it is by the clock: a pending purchase that
-- was not paid in time is cancelled, whether or not it has been taken back.
--
-- Locks: none. Errors: none.

create or replace function inventory.purchase_row(p_purchase inventory.purchases)
returns api.purchase_row
language sql stable parallel safe
as $$
  select row(
    p_purchase.id, p_purchase.drop_id, p_purchase.variant_id, p_purchase.reservation_id, p_purchase.user_id, p_purchase.qty,
    p_purchase.unit_price, p_purchase.currency, p_purchase.amount,
    case
      when p_purchase.status = 'pending' and p_purchase.payment_expires_at <= now() then 'cancelled'
      else p_purchase.status
    end,
    p_purchase.refunded_amount, p_purchase.refunded_at, p_purchase.created_at, p_purchase.updated_at, p_purchase.refunded_qty,
    p_purchase.payment_id
  )::api.purchase_row
$$;

comment on function inventory.purchase_row(inventory.purchases) is
'Return a purchase as the API shows it, as it is by the clock.';
