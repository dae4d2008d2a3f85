-- inventory.purchase_row: turn a row of purchases into the row that the API shows.
--
-- Locks: none. Errors: none.

create or replace function inventory.purchase_row(p_purchase inventory.purchases)
returns api.purchase_row
language sql immutable parallel safe
as $$
  select row(
    p_purchase.id, p_purchase.drop_id, p_purchase.variant_id, p_purchase.reservation_id, p_purchase.user_id, p_purchase.qty,
    p_purchase.unit_price, p_purchase.currency, p_purchase.amount, p_purchase.status, p_purchase.refunded_amount,
    p_purchase.refunded_at, p_purchase.created_at, p_purchase.updated_at
  )::api.purchase_row
$$;

comment on function inventory.purchase_row(inventory.purchases) is 'Return a purchase as the API shows it.';
