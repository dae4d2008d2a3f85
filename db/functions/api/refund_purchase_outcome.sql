-- api.refund_purchase_outcome: refund a purchase, and say whether the Idempotency-Key came before.
--
-- Purpose: calls api.refund_purchase for the service. Status: 200. Locks and errors: see there; a refusal is raised.

create or replace function api.refund_purchase_outcome(
  p_purchase_id uuid, p_refunded_by uuid, p_idempotency_key text, p_qty integer default null
)
returns setof api.outcome
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_purchase api.purchase_row;
begin
  select * into v_purchase from api.refund_purchase(p_purchase_id, p_refunded_by, p_idempotency_key, p_qty);
  return next row(
    1, 200, null, null, inventory.is_replay(inventory.acting_user(p_refunded_by), p_idempotency_key),
    to_json(v_purchase))::api.outcome;
end
$$;

comment on function api.refund_purchase_outcome(uuid, uuid, text, integer) is
'Refund a purchase as api.refund_purchase does. The outcome says whether the Idempotency-Key came before.';
