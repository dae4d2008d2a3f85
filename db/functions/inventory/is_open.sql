-- inventory.is_open: whether a payment can still be paid: it is pending, or failed and may be tried again, and not due.
--
-- Locks: none. Errors: none.

create or replace function inventory.is_open(p_payment inventory.payments)
returns boolean
language sql stable parallel safe
as $$
  select p_payment.status in ('pending', 'failed') and p_payment.expires_at > now()
$$;

comment on function inventory.is_open(inventory.payments) is 'Can this payment still be paid?';
