-- inventory.purchase_refusal: the code with which a purchase request is refused, or null if it is served.
--
-- Purpose: the rule alone, so that a test can try every case (db/tests/test_purchase_refusal.sql).
--
--   p_is_consumed       the request's hold was live and this call has consumed it
--   p_leads             the request is the first in this call that means that hold
--   p_repeats_leader    it comes later, with the Idempotency-Key of the leader
--   p_repeats_earlier   its key is that of an earlier purchase
--   p_earlier_differs   that purchase is of another reservation than the one that the request names
--   p_hold_status       what became of the hold that it meant, or of the user's newest hold; null: there never was one
--   p_has_several       the user has several holds, and the request names none
--   p_names_reservation the request names a reservation
--   p_user_exists
--   p_drop_status       null: there is no such drop
--
-- Locks: none. Errors: none. PostgreSQL puts the expression into the query that calls this function.

create or replace function inventory.purchase_refusal(
  p_is_consumed boolean,
  p_leads boolean,
  p_repeats_leader boolean,
  p_repeats_earlier boolean,
  p_earlier_differs boolean,
  p_hold_status text,
  p_has_several boolean,
  p_names_reservation boolean,
  p_user_exists boolean,
  p_drop_status text
)
returns text
language sql immutable parallel safe
as $$
  select case
    when p_is_consumed and (p_leads or p_repeats_leader) then null
    when p_is_consumed then 'NO_ACTIVE_RESERVATION' -- the leader bought the units
    when p_earlier_differs then 'IDEMPOTENCY_KEY_REUSED'
    when p_repeats_earlier then null
    when not p_user_exists then 'AUTH_REQUIRED'
    when p_drop_status is null then 'DROP_NOT_FOUND'
    when p_has_several then 'SEVERAL_RESERVATIONS'
    when p_hold_status = 'EXPIRED' then 'RESERVATION_EXPIRED'
    when p_drop_status = 'cancelled' then 'DROP_NOT_ACTIVE'
    when p_hold_status is null and p_names_reservation then 'RESERVATION_NOT_FOUND'
    else 'NO_ACTIVE_RESERVATION' -- the user has bought or cancelled it, or never had one
  end
$$;

comment on function
inventory.purchase_refusal(boolean, boolean, boolean, boolean, boolean, text, boolean, boolean, boolean, text) is
'The code with which a purchase request is refused, or null if it is served.';
