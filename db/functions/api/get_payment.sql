-- api.get_payment: return a payment to the buyer, as it is by the clock.
--
-- PAYMENT_NOT_FOUND is also the answer for another user's, because it must not show that the payment exists. Without a user
-- (null) it is anyone's; only the service and the owner may ask so.
--
-- Locks: none. Errors: FORBIDDEN (a buyer names another user, or none), PAYMENT_NOT_FOUND.

create or replace function api.get_payment(p_payment_id uuid, p_user_id uuid)
returns setof api.payment_row
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  perform inventory.require_self(p_user_id);
  return query
  select r.*
  from inventory.payments y
  cross join lateral inventory.payment_row(y) r
  where y.id = p_payment_id and (p_user_id is null or y.user_id = p_user_id);
  if not found then
    perform inventory.refuse('PAYMENT_NOT_FOUND');
  end if;
end
$$;

comment on function api.get_payment(uuid, uuid) is
'Return a payment to its buyer: its status, its amount and what to pay with.
select * from api.get_payment(''<payment>'', ''<user>'');';
