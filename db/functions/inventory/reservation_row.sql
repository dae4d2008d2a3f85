-- inventory.reservation_row: turn a row of reservations into the row that the API shows.
--
-- Locks: none. Errors: none.

create or replace function inventory.reservation_row(p_reservation inventory.reservations)
returns api.reservation
language sql immutable parallel safe
as $$
  select row(
    p_reservation.id, p_reservation.drop_id, p_reservation.user_id, p_reservation.status, p_reservation.expires_at,
    p_reservation.created_at, p_reservation.updated_at
  )::api.reservation
$$;

comment on function inventory.reservation_row(inventory.reservations) is 'Return a reservation as the API shows it.';
