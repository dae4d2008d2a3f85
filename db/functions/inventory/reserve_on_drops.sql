-- inventory.reserve_on_drops: hold units of drops for each of many requests, in the order given.
--
-- Purpose: the one implementation of reserving; api.reserve calls it for one request, api.reserve_batch for many,
-- inventory.reserve_baskets for the items of baskets. The requests behave as if they came one after the other. A hold lasts
-- hold_seconds of its drop, or else p_ttl_seconds.
--
-- Steps: inventory.prepare_drops locks the drops of which a unit can be taken and takes back what is due;
-- inventory.reserve_decisions says what becomes of each request; this function writes it, for all drops in one statement. A hold
-- keeps the unit price and the currency of this moment.
--
-- Locks, in this order: the rows of the drops, in the order of their ids, but not of one from which no request can take a unit (if
-- that is so of all, nothing is locked or written); due reservations, with skip locked. Variants are written under the drop's lock
-- only. Every hold is inserted under the drop's lock, so its unique keys never collide.
--
-- Errors: VALIDATION_ERROR (a key, qty, p_ttl_seconds). Nothing else is raised; each request has its code: AUTH_REQUIRED,
-- DROP_NOT_FOUND, DROP_NOT_ACTIVE, VARIANT_NOT_FOUND, ALREADY_RESERVED, LIMIT_EXCEEDED, RESERVED_TOO_SOON, OUT_OF_STOCK,
-- IDEMPOTENCY_KEY_REUSED.
--
-- Plans: a drop starts with empty tables and a session keeps its plans, so the plan must be the same index walk from the first
-- row on, without ANALYZE (db/README.md). Drops and variants are updated with = any (array) and not with a join, because a join
-- could be turned into one that reads all of them.
--
-- "rows" keeps the estimated cost of a call for many drops far below what starts PostgreSQL's JIT compiler.

create or replace function inventory.reserve_on_drops(
  p_requests api.reserve_request[],
  p_ttl_seconds integer,
  p_basket_ids uuid[] default null
)
returns table (n integer, code text, message text, replayed boolean, reservation api.reservation_row)
language plpgsql rows 10
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_drop_ids uuid[] := array[p_requests[1].drop_id];
  v_prepared record; -- the drops, and those on which something was due
  v_variants inventory.variants[];
  v_variant_ids uuid[];
  v_decision record;
  v_drop record; -- arrays with an element for each drop: its price, its currency, and when a hold of it ends
  v_new_ids uuid[]; -- an id for each request, in case it takes units
  v_unit_prices numeric[]; -- of each request, if a drop has variants
begin
  perform inventory.check_reserve_requests(p_requests, p_ttl_seconds);
  if cardinality(p_requests) <> 1 then
    v_drop_ids := array(select distinct q.drop_id from unnest(p_requests) q order by q.drop_id);
  end if;

  select * into v_prepared from inventory.prepare_drops(v_drop_ids, p_requests);
  v_variants := array(select v from inventory.variants v where v.drop_id = any (v_drop_ids) order by v.drop_id, v.id);
  select * into v_decision from inventory.reserve_decisions(v_drop_ids, v_prepared.drops, v_variants, p_requests);

  if 0 = all (v_decision.units) then
    return query
    select q.n::integer, q.code, q.message, q.code is null, v_decision.earlier[q.n]
    from rows from (unnest(v_decision.codes), unnest(v_decision.messages)) with ordinality as q (code, message, n)
    order by q.n;
    return;
  end if;

  v_new_ids := inventory.new_ids(cardinality(p_requests));
  select
    array_agg(d.price) as prices,
    array_agg(d.currency) as currencies,
    array_agg(now() + make_interval(secs => coalesce(d.hold_seconds, p_ttl_seconds))) as expires_at
  into v_drop
  from unnest(v_prepared.drops) d;
  if v_variants <> '{}' then
    v_unit_prices := array(
      select v.price
      from unnest(p_requests) with ordinality q
      left join unnest(v_variants) v on v.id = q.variant_id and v.drop_id = q.drop_id
      order by q.ordinality
    );
    v_variant_ids := array(select v.id from unnest(v_variants) v);
    update inventory.variants v
    set
      available_stock = v.available_stock - v_decision.units[cardinality(v_drop_ids) + array_position(v_variant_ids, v.id)],
      updated_at = now()
    where v.drop_id = any (v_drop_ids)
      and v.id = any (v_variant_ids)
      and v_decision.units[cardinality(v_drop_ids) + array_position(v_variant_ids, v.id)] > 0;
  end if;

  return query
  with decision as materialized (
    select
      q.n::integer, q.drop_id, q.user_id, q.variant_id, coalesce(q.qty, 1) as qty, q.idempotency_key, q.code, q.message, q.taker_n,
      coalesce(v_unit_prices[q.n], v_drop.prices[q.drop_n]) as unit_price,
      v_drop.currencies[q.drop_n] as currency,
      v_drop.expires_at[q.drop_n] as expires_at
    from rows from (
      unnest(p_requests), unnest(v_decision.codes), unnest(v_decision.messages), unnest(v_decision.taker_ns),
      unnest(v_decision.drop_ns)
    ) with ordinality as q (drop_id, user_id, idempotency_key, variant_id, qty, code, message, taker_n, drop_n, n)
  ),
  new_hold as (
    insert into inventory.reservations (
      id, drop_id, variant_id, user_id, basket_id, qty, unit_price, currency, expires_at, idempotency_key)
    select
      v_new_ids[d.n], d.drop_id, d.variant_id, d.user_id, p_basket_ids[d.n], d.qty, d.unit_price, d.currency, d.expires_at,
      d.idempotency_key
    from decision d
    where d.taker_n = d.n
    order by d.n
  ),
  stock_taken as (
    update inventory.drops d
    set
      available_stock = d.available_stock - v_decision.units[array_position(v_drop_ids, d.id)],
      -- Nothing was due until now, unless something was taken back.
      nothing_due_before = least(
        case when d.id = any (v_prepared.due_ids) then d.nothing_due_before else greatest(d.nothing_due_before, now()) end,
        v_drop.expires_at[array_position(v_drop_ids, d.id)]),
      updated_at = now()
    where d.id = any (v_drop_ids) and v_decision.units[array_position(v_drop_ids, d.id)] > 0
  )
  select
    d.n,
    d.code,
    d.message,
    d.code is null and d.taker_n is distinct from d.n,
    case when d.code is null then
      coalesce(
        v_decision.earlier[d.n],
        row(
          v_new_ids[d.taker_n], d.drop_id, d.variant_id, d.user_id, p_basket_ids[d.taker_n], d.qty, d.unit_price, d.currency,
          d.qty * d.unit_price, 'ACTIVE', d.expires_at, null, now(), now())::api.reservation_row)
    end
  from decision d
  order by d.n;
end
$$;

comment on function inventory.reserve_on_drops(api.reserve_request[], integer, uuid[]) is
'Hold units of drops for each of many requests, in the order given; one outcome per request, nothing raised for a refusal.';
