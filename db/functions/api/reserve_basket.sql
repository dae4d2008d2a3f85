-- api.reserve_basket: hold units of several drops and variants for a user: all items or none.
--
-- Purpose: calls inventory.reserve_baskets for one basket. A refused basket is an answer with a row for each refused item,
-- because an error could not name them all. A refusal does not spend the Idempotency-Key.
--
-- Locks: see inventory.reserve_baskets. Errors raised: FORBIDDEN (a buyer names another user, or a p_ttl_seconds), AUTH_REQUIRED,
-- VALIDATION_ERROR (the items, a qty, the key, p_ttl_seconds), IDEMPOTENCY_KEY_REUSED; with several drops lock_not_available
-- (55P03) after 100 ms at a lock. Then nothing is done, and the caller may try again. Codes of refused items: see
-- inventory.reserve_on_drops.

create or replace function api.reserve_basket(
  p_user_id uuid,
  p_items api.basket_item[],
  p_idempotency_key text default null,
  p_ttl_seconds integer default 60
)
returns table (index integer, code text, message text, replayed boolean, basket api.basket_row)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  v_outcome record;
begin
  perform inventory.require_self(p_user_id);
  perform inventory.require_usual_ttl(p_ttl_seconds);
  select * into v_outcome
  from inventory.reserve_baskets(array[row(p_user_id, p_items, p_idempotency_key)::api.basket_request], p_ttl_seconds);
  if v_outcome.code = 'BASKET_REFUSED' then
    return query select r.*, false, null::api.basket_row from unnest(v_outcome.refused_items) r;
  elsif v_outcome.code is not null then
    perform inventory.refuse(v_outcome.code, v_outcome.message);
  else
    return query select null::integer, null::text, null::text, v_outcome.replayed, v_outcome.basket;
  end if;
end
$$;

comment on function api.reserve_basket(uuid, api.basket_item[], text, integer) is
'Hold all of 1 to 20 items for a user, or none. If all are held the answer is one row with the basket; otherwise it has one row
for each refused item: index is its place in p_items, from 0 on. A hold lasts hold_seconds of its drop, or else p_ttl_seconds. A
repeated p_idempotency_key returns the first basket as it is now, with replayed true. With several drops no lock but the first is
waited for longer than 100 ms (55P03). select index, code, message, (basket).* from api.reserve_basket(''<user>'',
array[row(''<drop>'', ''<variant or null>'', 1)]::api.basket_item[]);';
