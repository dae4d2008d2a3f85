-- api.reserve: hold one unit of a drop for a user, and raise if that is refused.
--
-- Purpose: calls inventory.reserve_on_drop for one request. A buyer's hold lasts as long as the default of p_ttl_seconds says,
-- because a buyer who chose the time could keep a unit from others for a day.
--
-- Locks: see inventory.reserve_on_drop. Errors: FORBIDDEN (a buyer names another user, or another time than the default),
-- AUTH_REQUIRED, DROP_NOT_FOUND, DROP_NOT_ACTIVE, OUT_OF_STOCK, ALREADY_RESERVED, VALIDATION_ERROR (a key, p_ttl_seconds).

create or replace function api.reserve(
  p_drop_id uuid,
  p_user_id uuid,
  p_idempotency_key text default null,
  p_ttl_seconds integer default 60
)
returns table (
  id uuid,
  drop_id uuid,
  user_id uuid,
  status text,
  expires_at timestamptz,
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
  if p_ttl_seconds is distinct from 60 and not inventory.may_act_for_anyone() then -- 60 is the default
    perform inventory.refuse('FORBIDDEN', 'p_ttl_seconds: you cannot choose how long a hold lasts; leave it out.');
  end if;
  select * into strict v_outcome
  from inventory.reserve_on_drop(
    p_drop_id, array[row(p_drop_id, p_user_id, p_idempotency_key)::api.reserve_request], p_ttl_seconds);
  if v_outcome.code is not null then
    perform inventory.refuse(v_outcome.code);
  end if;
  return query select (v_outcome.reservation).*, v_outcome.replayed;
end
$$;

comment on function api.reserve(uuid, uuid, text, integer) is
'Hold one unit of a drop for a user for p_ttl_seconds and return the reservation. A buyer leaves p_ttl_seconds out. A repeated
p_idempotency_key returns the first reservation as it is now, with replayed true.
select * from api.reserve(p_drop_id => ''…'', p_user_id => ''…'');';
