-- api.cancel_payment: let a buyer cancel a payment that is not paid yet, and give the units of its purchases back to stock.
--
-- Purpose: the provider is told. A payment that is cancelled already, or was not paid in time, is returned as it is, so the call
-- may be repeated.
--
-- Locks, in this order: the rows of its drops in the order of their ids, its purchases, the payment. Errors: FORBIDDEN (a buyer
-- names another user, or none), PAYMENT_NOT_FOUND (also of another user's), INVALID_STATUS_CHANGE (paid or refunded).

create or replace function api.cancel_payment(p_payment_id uuid, p_user_id uuid)
returns setof api.payment_row
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_payment inventory.payments;
begin
  perform inventory.require_self(p_user_id);
  select * into v_payment
  from inventory.payments y
  where y.id = p_payment_id and (p_user_id is null or y.user_id = p_user_id);
  if not found then
    perform inventory.refuse('PAYMENT_NOT_FOUND');
  end if;
  if v_payment.status in ('pending', 'failed') then
    v_payment := inventory.lock_payment(p_payment_id, 2);
  end if;
  if v_payment.status in ('paid', 'refunded') then
    perform inventory.refuse('INVALID_STATUS_CHANGE', format('A payment that is %s cannot be cancelled.', v_payment.status));
  end if;
  if v_payment.status <> 'cancelled' then
    perform inventory.cancel_payments(array[p_payment_id]);
  end if;
  return query select r.* from inventory.payments y cross join lateral inventory.payment_row(y) r where y.id = p_payment_id;
end
$$;

comment on function api.cancel_payment(uuid, uuid) is
'Cancel a payment of a user that is not paid yet, give its units back and return it.
select * from api.cancel_payment(''<payment>'', ''<user>'');';
