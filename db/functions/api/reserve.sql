-- api.reserve: hold units of a drop for a user, and raise if that is refused.
--
-- Purpose: calls inventory.reserve_on_drops for one request. Locks: see there. Errors: FORBIDDEN (a buyer names another user, or a
-- p_ttl_seconds), VALIDATION_ERROR (a key, p_qty, p_ttl_seconds), and the codes of inventory.reserve_on_drops.

create or replace function api.reserve(
  p_drop_id uuid,
  p_user_id uuid,
  p_idempotency_key text default null,
  p_ttl_seconds integer default 60,
  p_variant_id uuid default null,
  p_qty integer default 1
)
returns table (
  id uuid,
  drop_id uuid,
  variant_id uuid,
  user_id uuid,
  basket_id uuid,
  qty integer,
  unit_price numeric,
  currency text,
  amount numeric,
  status text,
  expires_at timestamptz,
  extended_at timestamptz,
  "createdAt" timestamptz,
  "updatedAt" timestamptz,
  replayed boolean
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_outcome record;
begin
  perform inventory.require_self(p_user_id);
  perform inventory.require_usual_ttl(p_ttl_seconds);
  select * into strict v_outcome
  from inventory.reserve_on_drops(
    array[row(p_drop_id, p_user_id, p_idempotency_key, p_variant_id, p_qty)::api.reserve_request], p_ttl_seconds);
  if v_outcome.code is not null then
    perform inventory.refuse(v_outcome.code, v_outcome.message);
  end if;
  return query select (v_outcome.reservation).*, v_outcome.replayed;
end
$$;

comment on function api.reserve(uuid, uuid, text, integer, uuid, integer) is
'Hold p_qty units of a drop, or of its variant p_variant_id, for a user and return the reservation. It lasts hold_seconds of the
drop, or else p_ttl_seconds. A repeated p_idempotency_key returns the first reservation as it is now, with replayed true. select * from api.reserve(p_drop_id => ''…'', p_user_id => ''…'');';
