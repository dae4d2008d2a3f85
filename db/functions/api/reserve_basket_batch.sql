-- api.reserve_basket_batch: hold the items of many baskets, all items of a basket or none: one outcome per basket, nothing raised
-- for a refusal.
--
-- Locks: see inventory.reserve_baskets. Errors: VALIDATION_ERROR (a qty, a key, p_ttl_seconds); with several drops
-- lock_not_available (55P03) after 100 ms at a lock. Then nothing is done for any basket, and the caller may try again, or send
-- fewer baskets. Codes of refusals: see inventory.reserve_baskets.

create or replace function api.reserve_basket_batch(p_requests api.basket_request[], p_ttl_seconds integer default 60)
returns setof api.outcome
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
begin
  return query
  select
    o.n, coalesce(e.status, case when o.replayed then 200 else 201 end), o.code, o.message, o.replayed,
    case when o.code is null then to_json(o.basket) else to_json(o.refused_items) end
  from inventory.reserve_baskets(p_requests, p_ttl_seconds) o
  left join inventory.errors() e on e.code = o.code
  order by o.n;
end
$$;

comment on function api.reserve_basket_batch(api.basket_request[], integer) is
'Hold all items of each basket, or none of it, in the order given. The answer has one row a request: n is its place in p_requests,
status the HTTP status, code and message say why it is refused; data is the basket or, with BASKET_REFUSED, a list of the refused
items. A hold lasts hold_seconds of its drop, or else p_ttl_seconds. With several drops no lock but the first is waited for longer
than 100 ms (55P03). select * from api.reserve_basket_batch(array[row(''<user>'', array[row(''<drop>'', ''<variant or null>'',
1)]::api.basket_item[], ''<key or null>'')]::api.basket_request[]);';
