-- api.purchase_basket: buy all that a user holds in a basket, or nothing.
--
-- Purpose: calls inventory.purchase_on_drops for all holds. If all of them are bought already, by this function or
-- one by one, the answer is their purchases, so the call may be repeated. p_idempotency_key is not needed for that; a key that
-- came with another request is refused.
--
-- With a provider of payments all purchases belong to one payment, so they must have one currency. What is free is paid at once.
--
-- Locks: the key, then the basket's reservations in the order of their drops' ids and their own. They are locked before anything
-- is decided, so a copy of the request waits here and then finds the purchases. No drop is locked, because no hold that has run
-- out is touched: a reserve on its drop or a sweep takes it back.
--
-- Errors: FORBIDDEN (a buyer names another user), AUTH_REQUIRED, BASKET_NOT_FOUND, RESERVATION_EXPIRED, BASKET_NOT_ACTIVE (a hold
-- was cancelled, or some but not all were bought), SEVERAL_CURRENCIES, IDEMPOTENCY_KEY_REUSED. The sentence of
-- RESERVATION_EXPIRED and BASKET_NOT_ACTIVE names the item. The refusal is raised, so nothing is bought.

create or replace function api.purchase_basket(p_basket_id uuid, p_user_id uuid, p_idempotency_key text default null)
returns table (purchase api.purchase_row, replayed boolean)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_basket inventory.baskets;
  v_holds api.reservation_row[]; -- as they are by the clock
  v_is_repeated boolean;
  v_lost record; -- the first hold that cannot be bought
  v_code text;
begin
  perform inventory.require_self(p_user_id);
  perform inventory.claim_idempotency_key(p_user_id, p_idempotency_key, 'purchase_basket', to_jsonb(p_basket_id), p_basket_id);
  v_basket := inventory.find_basket(p_basket_id, p_user_id);
  perform from inventory.reservations r where r.basket_id = p_basket_id order by r.drop_id, r.id for no key update;
  v_holds := (inventory.basket_row(v_basket)).reservations;
  v_is_repeated := not exists (select from unnest(v_holds) h where h.status <> 'CONSUMED');

  if not v_is_repeated then
    select h.ordinality - 1 as index, h.status into v_lost
    from unnest(v_holds) with ordinality h
    where h.status <> 'ACTIVE'
    order by h.status = 'EXPIRED' desc, h.ordinality
    limit 1;
    if v_lost.status = 'EXPIRED' then
      perform inventory.refuse(
        'RESERVATION_EXPIRED', format('The hold of item %s ran out, so nothing of this basket is bought.', v_lost.index));
    elsif v_lost.status is not null then
      perform inventory.refuse(
        'BASKET_NOT_ACTIVE',
        format('Item %s was %s already, so nothing of this basket is bought now.', v_lost.index,
          case v_lost.status when 'CONSUMED' then 'bought' else 'cancelled' end));
    end if;

    if (select s.payment_provider from inventory.settings s where s.is_only) <> 'none'
      and (select count(distinct h.currency) from unnest(v_holds) h where h.amount > 0) > 1
    then
      perform inventory.refuse('SEVERAL_CURRENCIES');
    end if;

    select o.code into v_code
    from inventory.purchase_on_drops(
      array(select row(h.drop_id, p_user_id, null, h.id)::api.purchase_request from unnest(v_holds) h), p_basket_id) o
    where o.code is not null;
    if v_code is not null then
      raise exception 'a locked and live hold of basket % was refused: %', p_basket_id, v_code;
    end if;
  end if;

  return query
  select inventory.purchase_row(p), v_is_repeated
  from unnest(v_holds) with ordinality h
  cross join lateral (
    select * from inventory.purchases p where p.reservation_id = h.id and p.drop_id = h.drop_id limit 1
  ) p
  order by h.ordinality;
end
$$;

comment on function api.purchase_basket(uuid, uuid, text) is
'Buy all that a user holds in a basket, or nothing, and return the purchases in the order of its items. A repeated call returns
the first purchases as they are now, with replayed true.
select (purchase).*, replayed from api.purchase_basket(''<basket>'', ''<user>'');';
