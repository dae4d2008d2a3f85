-- inventory.drop_calls: end the open calls of a payment that are of no use any more.
--
-- Purpose: once a payment is paid, it must not be cancelled; once all was refunded, there is nothing to refund. A worker that is
-- making such a call at this moment finds that it is done. With p_given_up only calls that were given up end.
--
-- Locks: the caller has locked the payment; the calls. Errors: none.

create or replace function inventory.drop_calls(p_payment_id uuid, p_actions text[], p_given_up boolean default false)
returns void
language sql
as $$
  update inventory.provider_calls c
  set done_at = now(), gave_up_at = null, last_error = 'The payment has changed, so the call was not needed any more.'
  where c.payment_id = p_payment_id and c.action = any (p_actions) and c.done_at is null
    and (c.gave_up_at is not null or not p_given_up)
$$;

comment on function inventory.drop_calls(uuid, text[], boolean) is 'End the open calls of a payment that are of no use any more.';
