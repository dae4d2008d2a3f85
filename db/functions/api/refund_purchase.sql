-- api.refund_purchase: refund all of a paid purchase and give its units back to stock.
--
-- Purpose: with p_idempotency_key a repeated request returns the purchase that the first one refunded. Without it a purchase that is
-- refunded already is refused.
--
-- Locks, in this order: the key, the drop's row, the purchase. Errors: PURCHASE_NOT_FOUND, INVALID_STATUS_CHANGE (not paid),
-- IDEMPOTENCY_KEY_REUSED, FORBIDDEN (a seller names another user), AUTH_REQUIRED.

create or replace function api.refund_purchase(
  p_purchase_id uuid, p_refunded_by uuid default null, p_idempotency_key text default null
)
returns setof api.purchase_row
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_drop_id uuid := (select p.drop_id from inventory.purchases p where p.id = p_purchase_id);
  v_status text;
  v_purchase inventory.purchases;
begin
  if inventory.claim_idempotency_key(
    inventory.acting_user(p_refunded_by), p_idempotency_key,
    'refund_purchase', to_jsonb(p_purchase_id), p_purchase_id) is not null
  then
    return query
    select r.* from inventory.purchases p cross join lateral inventory.purchase_row(p) r where p.id = p_purchase_id;
    return;
  end if;
  perform from inventory.drops d where d.id = v_drop_id for no key update;
  select p.status into v_status
  from inventory.purchases p
  where p.id = p_purchase_id and p.drop_id = v_drop_id
  for no key update;
  if not found then
    perform inventory.refuse('PURCHASE_NOT_FOUND');
  end if;
  if v_status <> 'paid' then
    perform inventory.refuse('INVALID_STATUS_CHANGE', format('A purchase that is %s cannot be refunded.', v_status));
  end if;

  select * into v_purchase from inventory.refund(v_drop_id, array[p_purchase_id]);
  perform inventory.record_change(
    v_drop_id, 'refunded', p_refunded_by,
    jsonb_build_object('purchase_id', p_purchase_id, 'qty', v_purchase.qty, 'amount', v_purchase.amount));
  return query select (inventory.purchase_row(v_purchase)).*;
end
$$;

comment on function api.refund_purchase(uuid, uuid, text) is
'Refund a paid purchase, give its units back to stock and return it. p_refunded_by is noted in the history. A repeated request with
the same p_idempotency_key returns the purchase.';
