-- api.purchase: purchase the unit that a user holds on a drop, and raise if that is refused.
--
-- Purpose: calls inventory.purchase_on_drops for one request. Locks: see there. Errors: FORBIDDEN (a buyer names another user),
-- VALIDATION_ERROR (a key), and the codes of inventory.purchase_on_drops.
--
-- With a provider of payments the purchase is pending, and payment_id is what api.get_payment returns.
--
-- If the refusal is raised, the transaction is rolled back, and with it the expiry of a hold that has run out
-- (api.purchase_batch commits that). A later reserve on this drop or a sweep then takes the hold back.

create or replace function api.purchase(
  p_drop_id uuid,
  p_user_id uuid,
  p_idempotency_key text default null,
  p_reservation_id uuid default null
)
returns table (
  id uuid,
  drop_id uuid,
  variant_id uuid,
  reservation_id uuid,
  user_id uuid,
  qty integer,
  unit_price numeric,
  currency text,
  amount numeric,
  status text,
  refunded_amount numeric,
  refunded_at timestamptz,
  "createdAt" timestamptz,
  "updatedAt" timestamptz,
  refunded_qty integer,
  payment_id uuid,
  replayed boolean
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_outcome record;
begin
  perform inventory.require_self(p_user_id);
  select * into strict v_outcome
  from inventory.purchase_on_drops(
    array[row(p_drop_id, p_user_id, p_idempotency_key, p_reservation_id)::api.purchase_request]);
  if v_outcome.code is not null then
    perform inventory.refuse(v_outcome.code);
  end if;
  return query select (v_outcome.purchase).*, v_outcome.replayed;
end
$$;

comment on function api.purchase(uuid, uuid, text, uuid) is
'Purchase what a user holds on a drop, as p_reservation_id if there are several holds, and return the purchase. A repeated p_idempotency_key returns the first purchase
as it is now, with replayed true. select * from api.purchase(p_drop_id => ''…'', p_user_id => ''…'');';
