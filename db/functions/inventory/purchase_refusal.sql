-- inventory.purchase_refusal: the code with which a purchase request is refused, or null if it is served.
--
-- Purpose: the rule alone, so that a test can try every case (db/tests/test_purchase_refusal.sql).
--
--   p_is_consumed       the request's hold was live and this call has consumed it
--   p_leads             the request is the first in this call that means that hold
--   p_repeats_leader    it comes later, with the Idempotency-Key of the leader
--   p_repeats_earlier   its key is that of an earlier purchase
--   p_has_hold          the user held a unit when the call began
--   p_hold_status       what became of that hold, if this call has not consumed it
--   p_user_exists, p_drop_exists
--
-- Locks: none. Errors: none. PostgreSQL puts the expression into the query that calls this function.

create or replace function inventory.purchase_refusal(
  p_is_consumed boolean,
  p_leads boolean,
  p_repeats_leader boolean,
  p_repeats_earlier boolean,
  p_has_hold boolean,
  p_hold_status text,
  p_user_exists boolean,
  p_drop_exists boolean
)
returns text
language sql immutable parallel safe
as $$
  select case
    when p_is_consumed and (p_leads or p_repeats_leader) then null
    when p_is_consumed then 'NO_ACTIVE_RESERVATION' -- the leader bought the unit
    when p_repeats_earlier then null
    when p_leads and p_hold_status = 'EXPIRED' then 'RESERVATION_EXPIRED'
    -- Another call has consumed or cancelled it, or the leader was told that it has run out.
    when p_has_hold then 'NO_ACTIVE_RESERVATION'
    when not p_user_exists then 'AUTH_REQUIRED'
    when not p_drop_exists then 'DROP_NOT_FOUND'
    else 'NO_ACTIVE_RESERVATION'
  end
$$;

comment on function inventory.purchase_refusal(boolean, boolean, boolean, boolean, boolean, text, boolean, boolean) is
'The code with which a purchase request is refused, or null if it is served.';
