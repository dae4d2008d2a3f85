-- inventory.reservation_row: turn a row of reservations into the row that the API shows, as it is by the clock: a hold that is due
-- has expired, whether or not it has been taken back.
--
-- Locks: none. Errors: none.

create or replace function inventory.reservation_row(p_reservation inventory.reservations)
returns api.reservation_row
language sql stable parallel safe
as $$
  select row(
    p_reservation.id, p_reservation.drop_id, p_reservation.variant_id, p_reservation.user_id, p_reservation.basket_id,
    p_reservation.qty, p_reservation.unit_price, p_reservation.currency, p_reservation.qty * p_reservation.unit_price,
    case when p_reservation.status = 'ACTIVE' and p_reservation.expires_at <= now() then 'EXPIRED' else p_reservation.status end,
    p_reservation.expires_at, p_reservation.extended_at, p_reservation.created_at, p_reservation.updated_at
  )::api.reservation_row
$$;

comment on function inventory.reservation_row(inventory.reservations) is 'Return a reservation as the API shows it, as it is by the clock.';
