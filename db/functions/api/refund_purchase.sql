-- api.refund_purchase: refund a paid purchase, or some of its units, and give the units back to stock.
--
-- Purpose: with p_idempotency_key a repeated request returns the purchase that the first one refunded. Without it a purchase that
-- is refunded already is refused. If the purchase was paid at a provider, the provider is told to pay the money back.
--
-- Locks, in this order: the key, the drop's row, the purchase, its payment. Errors: PURCHASE_NOT_FOUND, INVALID_STATUS_CHANGE
-- (not paid), VALIDATION_ERROR (qty), IDEMPOTENCY_KEY_REUSED, FORBIDDEN (a seller names another user), AUTH_REQUIRED.

create or replace function api.refund_purchase(
  p_purchase_id uuid, p_refunded_by uuid default null, p_idempotency_key text default null, p_qty integer default null
)
returns setof api.purchase_row
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_drop_id uuid := (select p.drop_id from inventory.purchases p where p.id = p_purchase_id);
  v_purchase inventory.purchases;
  v_refund record;
begin
  if inventory.claim_idempotency_key(
    inventory.acting_user(p_refunded_by), p_idempotency_key, 'refund_purchase',
    case when p_qty is null then to_jsonb(p_purchase_id) else jsonb_build_object('id', p_purchase_id, 'qty', p_qty) end,
    p_purchase_id) is not null
  then
    return query
    select r.* from inventory.purchases p cross join lateral inventory.purchase_row(p) r where p.id = p_purchase_id;
    return;
  end if;
  perform from inventory.drops d where d.id = v_drop_id for no key update;
  select * into v_purchase
  from inventory.purchases p
  where p.id = p_purchase_id and p.drop_id = v_drop_id
  for no key update;
  if not found then
    perform inventory.refuse('PURCHASE_NOT_FOUND');
  end if;
  if v_purchase.status <> 'paid' then
    perform inventory.refuse(
      'INVALID_STATUS_CHANGE',
      format('A purchase that is %s cannot be refunded.', (inventory.purchase_row(v_purchase)).status));
  end if;
  if p_qty not between 1 and v_purchase.qty - v_purchase.refunded_qty then
    perform inventory.refuse(
      'VALIDATION_ERROR',
      format('qty: must be between 1 and %s, the units that are not refunded', v_purchase.qty - v_purchase.refunded_qty));
  end if;

  select * into v_refund from inventory.refund(v_drop_id, array[p_purchase_id], p_qty);
  if v_purchase.payment_id is not null then
    perform inventory.refund_payments(array[v_purchase.payment_id], array[v_refund.amount]);
  end if;
  perform inventory.record_change(
    v_drop_id, 'refunded', p_refunded_by,
    jsonb_build_object('purchase_id', p_purchase_id, 'qty', v_refund.units, 'amount', v_refund.amount));
  return query select (inventory.purchase_row(v_refund.purchase)).*;
end
$$;

comment on function api.refund_purchase(uuid, uuid, text, integer) is
'Refund a paid purchase, or p_qty of its units, give the units back to stock and return it. p_refunded_by is noted in the history.
A repeated request with the same p_idempotency_key returns the purchase.';
