-- inventory.payment_row: turn a row of payments into the row that the API shows, as it is by the clock: a payment that was not
-- paid in time is cancelled, whether or not its units have been taken back.
--
-- What the buyer pays with (client_secret, url) is shown while the payment is open only.
--
-- Locks: none. Errors: none.

create or replace function inventory.payment_row(p_payment inventory.payments)
returns api.payment_row
language sql stable parallel safe
as $$
  select row(
    p_payment.id, p_payment.drop_id, p_payment.basket_id, p_payment.user_id, p_payment.amount, p_payment.currency,
    case
      when p_payment.status in ('pending', 'failed') and p_payment.expires_at <= now() then 'cancelled'
      else p_payment.status
    end,
    p_payment.refunded_amount, p_payment.provider, p_payment.provider_reference,
    case when inventory.is_open(p_payment) then p_payment.client_secret end,
    case when inventory.is_open(p_payment) then p_payment.url end,
    p_payment.expires_at, p_payment.paid_at, p_payment.created_at, p_payment.updated_at
  )::api.payment_row
$$;

comment on function inventory.payment_row(inventory.payments) is 'Return a payment as the API shows it, as it is by the clock.';
