-- api.cancel_reservation: give back the unit of one ACTIVE reservation; the face of inventory.cancel_many for people.
--
-- Locks: see inventory.cancel_many. Errors: AUTH_REQUIRED, RESERVATION_NOT_FOUND, RESERVATION_NOT_ACTIVE, RESERVATION_EXPIRED.

create or replace function api.cancel_reservation(p_reservation_id uuid, p_user_id uuid)
returns setof api.reservation
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_outcome record;
begin
  select m.* into strict v_outcome
  from inventory.cancel_many(
    (select r.drop_id from inventory.reservations r where r.id = p_reservation_id),
    array[p_reservation_id],
    array[p_user_id]
  ) m;
  if v_outcome.code is not null then
    perform inventory.refuse(v_outcome.code);
  end if;
  return query select (v_outcome.reservation).*;
end
$$;

comment on function api.cancel_reservation(uuid, uuid) is
'Cancel a user''s ACTIVE reservation, give its unit back and return the reservation.';
