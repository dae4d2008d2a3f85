-- api.cancel_basket: give back all that a user holds in a basket.
--
-- Purpose: calls inventory.cancel_on_drop for the holds of each drop. A hold that was cancelled or has run out is no error,
-- because its units are back already; so the call may be repeated. If something of the basket was bought, nothing is given back.
--
-- Locks: first the function waits, without a lock, until no purchase of these reservations is in progress; then drop by drop in
-- the order of their ids, as inventory.cancel_on_drop takes them. The locks of the first drops are held while a later one is
-- waited for, not longer than 100 ms: then lock_not_available (55P03) is raised, nothing is done, and the caller may try again.
--
-- Errors: FORBIDDEN (a buyer names another user), AUTH_REQUIRED, BASKET_NOT_FOUND, BASKET_NOT_ACTIVE (the sentence names the item
-- that was bought).

create or replace function api.cancel_basket(p_basket_id uuid, p_user_id uuid)
returns setof api.basket_row
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_basket inventory.baskets;
  v_lock_timeout text := current_setting('lock_timeout');
  v_of_drop record;
begin
  perform inventory.require_self(p_user_id);
  v_basket := inventory.find_basket(p_basket_id, p_user_id);
  perform inventory.await_reservations(of_drop.ids)
  from (
    select h.drop_id, array_agg(h.id) as ids
    from unnest((inventory.basket_row(v_basket)).reservations) h
    group by h.drop_id
    order by h.drop_id
  ) of_drop;

  for v_of_drop in
    select
      h.drop_id,
      array_agg(h.ordinality - 1 order by h.ordinality) as indexes,
      array_agg(row(h.id, p_user_id)::api.cancel_request order by h.ordinality) as requests
    from unnest((inventory.basket_row(v_basket)).reservations) with ordinality h
    group by h.drop_id
    order by h.drop_id
  loop
    perform inventory.refuse(
      'BASKET_NOT_ACTIVE',
      format('Item %s was bought already, so nothing of this basket is given back.', v_of_drop.indexes[o.n]))
    from inventory.cancel_on_drop(v_of_drop.drop_id, v_of_drop.requests) o
    where o.code <> 'RESERVATION_EXPIRED';
    perform set_config('lock_timeout', '100ms', true);
  end loop;
  perform set_config('lock_timeout', v_lock_timeout, true);
  return query select (inventory.basket_row(v_basket)).*;
end
$$;

comment on function api.cancel_basket(uuid, uuid) is
'Give back all that a user holds in a basket, and return the basket. It may be repeated. With several drops no lock but the first
is waited for longer than 100 ms (55P03).';
