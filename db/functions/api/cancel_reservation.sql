-- api.cancel_reservation: give back the unit of a user's ACTIVE reservation, and raise if that is refused.
--
-- Purpose: calls inventory.cancel_on_drop for one request. Locks: see there. Errors: FORBIDDEN (a buyer names another user),
-- AUTH_REQUIRED, RESERVATION_NOT_FOUND, RESERVATION_NOT_ACTIVE, RESERVATION_EXPIRED.

create or replace function api.cancel_reservation(p_reservation_id uuid, p_user_id uuid)
returns setof api.reservation_row
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_outcome record;
begin
  perform inventory.require_self(p_user_id);
  select * into strict v_outcome
  from inventory.cancel_on_drop(
    (select r.drop_id from inventory.reservations r where r.id = p_reservation_id),
    array[row(p_reservation_id, p_user_id)::api.cancel_request]);
  if v_outcome.code is not null then
    perform inventory.refuse(v_outcome.code);
  end if;
  return query select (v_outcome.reservation).*;
end
$$;

comment on function api.cancel_reservation(uuid, uuid) is
'Cancel a user''s ACTIVE reservation, give its unit back and return the reservation.';
