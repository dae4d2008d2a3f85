-- api.refund_purchase: refund all of a paid purchase and give its units back to stock.
--
-- Locks, in this order: the drop's row, the purchase. Errors: PURCHASE_NOT_FOUND, INVALID_STATUS_CHANGE (not paid).

create or replace function api.refund_purchase(p_purchase_id uuid)
returns setof api.purchase_row
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_drop_id uuid := (select p.drop_id from inventory.purchases p where p.id = p_purchase_id);
  v_status text;
begin
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

  return query
  with refunded as (
    update inventory.purchases p
    set status = 'refunded', refunded_amount = p.amount, refunded_at = now(), updated_at = now()
    where p.id = p_purchase_id and p.drop_id = v_drop_id
    returning p.*
  ),
  restored as (
    update inventory.drops d
    set available_stock = d.available_stock + (select r.qty from refunded r), updated_at = now()
    where d.id = v_drop_id
  ),
  variant_restored as (
    update inventory.variants v
    set available_stock = v.available_stock + r.qty, updated_at = now()
    from refunded r
    where v.drop_id = v_drop_id and v.id = r.variant_id
  )
  select (inventory.purchase_row(refunded)).* from refunded;
end
$$;

comment on function api.refund_purchase(uuid) is 'Refund a paid purchase, give its units back to stock and return it.';
