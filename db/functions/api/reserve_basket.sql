-- api.reserve_basket: hold units of several drops and variants for a user: all items or none.
--
-- Purpose: calls inventory.reserve_on_drop for the items of each drop, with one basket_id. If an item is refused, what was done
-- is undone, and the answer has a row for each refused item. So a refusal does not spend the Idempotency-Key.
--
-- Locks, in this order: the new row of baskets, behind another transaction that makes one with the same user and Idempotency-Key;
-- then drop by drop in the order of their ids, as inventory.reserve_on_drop takes them. All transactions that lock several drops
-- take them in this order, so baskets cannot deadlock. The locks of the first drops are held while a later one is waited for, so
-- that must not take long: not longer than 100 ms, then lock_not_available (55P03) is raised, nothing is done, and the caller may
-- try again. The first drop is waited for as long as the caller's lock_timeout allows, because nothing else is locked by then.
-- What a refused item locked is released at once, because undoing a block releases the row locks that were taken in it.
--
-- Errors raised: FORBIDDEN (a buyer names another user), AUTH_REQUIRED, VALIDATION_ERROR (the items, a qty, the key,
-- p_ttl_seconds), IDEMPOTENCY_KEY_REUSED. Codes of refused items: see inventory.reserve_on_drop.

create or replace function api.reserve_basket(
  p_user_id uuid,
  p_items api.basket_item[],
  p_idempotency_key text default null,
  p_ttl_seconds integer default 60
)
returns table (index integer, code text, message text, replayed boolean, basket api.basket_row)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_items jsonb;
  v_basket inventory.baskets;
  v_is_new boolean;
  v_lock_timeout text := current_setting('lock_timeout');
  v_of_drop record; -- the items of one drop: their places in p_items, and each as a request
  v_refused record; -- the refused items: their places in p_items, their codes, their sentences
  v_refused_indexes integer[] := '{}';
  v_refused_codes text[] := '{}';
  v_refused_messages text[] := '{}';
begin
  perform inventory.require_self(p_user_id);
  perform inventory.check_basket_items(p_items);
  perform inventory.check_idempotency_keys(array[p_idempotency_key]);
  perform inventory.require_user(p_user_id);
  v_items := to_jsonb(array(
    select row(i.drop_id, i.variant_id, coalesce(i.qty, 1))::api.basket_item
    from unnest(p_items) with ordinality i
    order by i.ordinality
  ));

  begin
    insert into inventory.baskets (user_id, idempotency_key, items)
    values (p_user_id, p_idempotency_key, v_items)
    on conflict on constraint baskets_idempotency_key do nothing
    returning * into v_basket;
    v_is_new := found;

    if v_is_new then
      for v_of_drop in
        select
          i.drop_id,
          array_agg(i.ordinality::integer - 1 order by i.ordinality) as indexes,
          array_agg(row(i.drop_id, p_user_id, null, i.variant_id, i.qty)::api.reserve_request order by i.ordinality) as requests
        from unnest(p_items) with ordinality i
        group by i.drop_id
        order by i.drop_id
      loop
        select
          v_refused_indexes || array_agg(v_of_drop.indexes[o.n]) as indexes,
          v_refused_codes || array_agg(o.code) as codes,
          v_refused_messages || array_agg(o.message) as messages
        into v_refused
        from inventory.reserve_on_drop(v_of_drop.drop_id, v_of_drop.requests, p_ttl_seconds, v_basket.id) o
        where o.code is not null;
        v_refused_indexes := v_refused.indexes;
        v_refused_codes := v_refused.codes;
        v_refused_messages := v_refused.messages;
        perform set_config('lock_timeout', '100ms', true);
      end loop;
      if v_refused_indexes <> '{}' then
        raise exception using errcode = 'LPUND', message = 'undo this block';
      end if;
      perform set_config('lock_timeout', v_lock_timeout, true);
    end if;
  exception when sqlstate 'LPUND' then
    return query
    select r.index, r.code, coalesce(r.message, e.message), false, null::api.basket_row
    from unnest(v_refused_indexes, v_refused_codes, v_refused_messages) as r (index, code, message)
    join api.errors() e on e.code = r.code
    order by r.index;
    return;
  end;

  if not v_is_new then
    select * into strict v_basket
    from inventory.baskets b
    where b.user_id = p_user_id and b.idempotency_key = p_idempotency_key;
    if v_basket.items <> v_items then
      perform inventory.refuse('IDEMPOTENCY_KEY_REUSED');
    end if;
  end if;
  return query select null::integer, null::text, null::text, not v_is_new, inventory.basket_row(v_basket);
end
$$;

comment on function api.reserve_basket(uuid, api.basket_item[], text, integer) is
'Hold all of 1 to 20 items for a user, or none. If all are held the answer is one row with the basket; otherwise it has one row
for each refused item: index is its place in p_items, from 0 on. A hold lasts hold_seconds of its drop, or else p_ttl_seconds. A
repeated p_idempotency_key returns the first basket as it is now, with replayed true. With several drops no lock but the first is
waited for longer than 100 ms (55P03). select index, code, message, (basket).* from api.reserve_basket(''<user>'',
array[row(''<drop>'', ''<variant or null>'', 1)]::api.basket_item[]);';
