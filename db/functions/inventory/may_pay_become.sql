-- inventory.may_pay_become: whether a payment may change from one status to another: the state machine of payments.
--
--   from       to
--   pending    paid, failed, cancelled, refunded
--   failed     paid, cancelled, refunded             the buyer tries again until the payment ends
--   cancelled  paid, refunded                        the money came late: paid if the units are still there, or else refunded
--   paid       refunded
--   refunded   nothing
--
-- pending and failed become refunded if the provider tells of a refund before it tells of the payment. A payment that is due
-- counts as cancelled: the calling function passes 'cancelled' as p_from. A change that is not in the table is not an error: the
-- provider's events come late and in any order, so the later state stays.
--
-- Locks: none. Errors: none.

create or replace function inventory.may_pay_become(p_from text, p_to text)
returns boolean
language sql immutable parallel safe
as $$
  select (p_from, p_to) in (
    ('pending', 'paid'), ('pending', 'failed'), ('pending', 'cancelled'), ('pending', 'refunded'),
    ('failed', 'paid'), ('failed', 'cancelled'), ('failed', 'refunded'),
    ('cancelled', 'paid'), ('cancelled', 'refunded'),
    ('paid', 'refunded')
  )
$$;

comment on function inventory.may_pay_become(text, text) is 'May a payment in status p_from be given the status p_to?';
