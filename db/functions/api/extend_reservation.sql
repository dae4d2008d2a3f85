-- api.extend_reservation: let a user's hold end later, once, by extension_seconds of its drop.
--
-- Purpose: a hold is extended once, so a repeated call changes nothing: it returns the reservation, with replayed true. After
-- the hold has ended, a repeat is told so by p_idempotency_key only. A key that came with another request is refused.
--
-- Locks: the key, the reservation, and this transaction's own row of inventory.changes. The stock does not change, so the drop is
-- not locked. A sweep or purchase that has locked the hold at this moment is waited for. While this transaction is open, a sweep
-- skips the hold, and a purchase waits and finds it extended.
--
-- Errors: FORBIDDEN (a buyer names another user), AUTH_REQUIRED, RESERVATION_NOT_FOUND, RESERVATION_EXPIRED,
-- RESERVATION_NOT_ACTIVE, EXTENSION_NOT_ALLOWED, IDEMPOTENCY_KEY_REUSED. A reservation of another user is not found, because the
-- answer must not show that it exists.

create or replace function api.extend_reservation(p_reservation_id uuid, p_user_id uuid, p_idempotency_key text default null)
returns table (reservation api.reservation_row, replayed boolean)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_hold inventory.reservations;
  v_extension_seconds integer;
  v_status text;
  v_is_repeated boolean; -- by its key; then the hold may have ended since
begin
  perform inventory.require_self(p_user_id);
  v_is_repeated := inventory.claim_idempotency_key(
    p_user_id, p_idempotency_key, 'extend_reservation', to_jsonb(p_reservation_id), p_reservation_id) is not null;
  select * into v_hold
  from inventory.reservations r
  where r.id = p_reservation_id and r.user_id = p_user_id
  for no key update;
  if not found then
    perform inventory.require_user(p_user_id);
    perform inventory.refuse('RESERVATION_NOT_FOUND');
  end if;
  v_status := (inventory.reservation_row(v_hold)).status;
  if v_is_repeated or (v_status = 'ACTIVE' and v_hold.extended_at is not null) then
    return query select inventory.reservation_row(v_hold), true;
    return;
  elsif v_status = 'EXPIRED' then
    perform inventory.refuse('RESERVATION_EXPIRED');
  elsif v_status <> 'ACTIVE' then
    perform inventory.refuse(
      'RESERVATION_NOT_ACTIVE', format('This reservation was %s, so it cannot be extended.', lower(v_status)));
  end if;

  select d.extension_seconds into v_extension_seconds from inventory.drops d where d.id = v_hold.drop_id;
  if v_extension_seconds is null then
    perform inventory.refuse('EXTENSION_NOT_ALLOWED');
  end if;
  update inventory.reservations r
  set expires_at = r.expires_at + make_interval(secs => v_extension_seconds), extended_at = now(), updated_at = now()
  where r.id = p_reservation_id
  returning * into v_hold;
  -- If this commits after the old end, others have told meanwhile that the units are free.
  insert into inventory.changes as c (drop_id, is_stock_updated, variant_ids)
  values (v_hold.drop_id, true, array_remove(array[v_hold.variant_id], null))
  on conflict (transaction_id, drop_id) do update
  set is_stock_updated = true, variant_ids = c.variant_ids || excluded.variant_ids;
  return query select inventory.reservation_row(v_hold), false;
end
$$;

comment on function api.extend_reservation(uuid, uuid, text) is
'Let a user''s ACTIVE reservation end later by extension_seconds of its drop, once, and return it. A repeated call changes nothing
and returns the reservation with replayed true. select (reservation).*, replayed from api.extend_reservation(''…'', ''…'');';
