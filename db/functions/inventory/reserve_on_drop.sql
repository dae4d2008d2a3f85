-- inventory.reserve_on_drop: hold units of a drop for each of many requests, in the order given.
--
-- Purpose: the one implementation of reserving; api.reserve calls it for one request, api.reserve_batch for many,
-- api.reserve_basket for the items of a basket. The requests behave as if they came one after the other. All are for p_drop_id;
-- their own drop_id is not looked at. A hold lasts hold_seconds of the drop, or else p_ttl_seconds.
--
-- Steps: inventory.prepare_drop locks the drop if a unit can be taken and takes back what is due; inventory.reserve_decisions
-- says what becomes of each request; this function writes it. The hold keeps the unit price and the currency of this moment.
--
-- Locks, in this order: the drop's row, unless no request can take a unit (then nothing is locked or written); due reservations,
-- with skip locked. Variants are written under the drop's lock only. Every hold is inserted under the drop's lock, so its unique
-- keys never collide.
--
-- Errors: VALIDATION_ERROR (a key, qty, p_ttl_seconds). Nothing else is raised; each request has its code: AUTH_REQUIRED,
-- DROP_NOT_FOUND, DROP_NOT_ACTIVE, VARIANT_NOT_FOUND, ALREADY_RESERVED, LIMIT_EXCEEDED, RESERVED_TOO_SOON, OUT_OF_STOCK,
-- IDEMPOTENCY_KEY_REUSED.
--
-- Plans: a drop starts with empty tables and a session keeps its plans, so the plan must be the same index walk from the first
-- row on, without ANALYZE (db/README.md).
--
-- "rows" keeps the estimated cost of a call for many drops far below what starts PostgreSQL's JIT compiler.

create or replace function inventory.reserve_on_drop(
  p_drop_id uuid,
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
  v_drop inventory.drops;
  v_variants inventory.variants[];
  v_expires_at timestamptz;
  v_new_ids uuid[]; -- an id for each request, in case it takes units
  v_unit_prices numeric[]; -- of each request, if the drop has variants
  v_decision record;
begin
  perform inventory.check_reserve_requests(p_requests, p_ttl_seconds);

  v_drop := inventory.prepare_drop(p_drop_id, p_requests);
  v_variants := array(select v from inventory.variants v where v.drop_id = p_drop_id order by v.id);
  v_expires_at := now() + make_interval(secs => coalesce(v_drop.hold_seconds, p_ttl_seconds));

  select * into v_decision
  from inventory.reserve_decisions(v_drop, p_drop_id, inventory.drop_refusal(v_drop), v_variants, p_requests);

  if v_decision.units = 0 then
    return query
    select q.n::integer, q.code, q.message, q.code is null, v_decision.earlier[q.n]
    from rows from (unnest(v_decision.codes), unnest(v_decision.messages)) with ordinality as q (code, message, n)
    order by q.n;
    return;
  end if;

  v_new_ids := array(select inventory.uuid_v7() from unnest(p_requests));
  if v_variants <> '{}' then
    v_unit_prices := array(
      select coalesce(v.price, v_drop.price)
      from unnest(p_requests) with ordinality q
      left join unnest(v_variants) v on v.id = q.variant_id
      order by q.ordinality
    );
    update inventory.variants v
    set available_stock = v.available_stock - taken.units, updated_at = now()
    from (
      select q.variant_id, sum(coalesce(q.qty, 1)) as units
      from rows from (unnest(p_requests), unnest(v_decision.taker_ns)) with ordinality
        as q (drop_id, user_id, idempotency_key, variant_id, qty, taker_n, n)
      where q.taker_n = q.n
      group by q.variant_id
    ) taken
    where v.drop_id = p_drop_id and v.id = taken.variant_id;
  end if;

  return query
  with decision as materialized (
    select
      q.n::integer, q.user_id, q.variant_id, coalesce(q.qty, 1) as qty, q.idempotency_key, q.code, q.message, q.taker_n,
      coalesce(v_unit_prices[q.n], v_drop.price) as unit_price
    from rows from (
      unnest(p_requests), unnest(v_decision.codes), unnest(v_decision.messages), unnest(v_decision.taker_ns)
    ) with ordinality as q (drop_id, user_id, idempotency_key, variant_id, qty, code, message, taker_n, n)
  ),
  new_hold as (
    insert into inventory.reservations (
      id, drop_id, variant_id, user_id, basket_id, qty, unit_price, currency, expires_at, idempotency_key)
    select
      v_new_ids[d.n], p_drop_id, d.variant_id, d.user_id, p_basket_ids[d.n], d.qty, d.unit_price, v_drop.currency, v_expires_at,
      d.idempotency_key
    from decision d
    where d.taker_n = d.n
    order by d.n
  ),
  stock_taken as (
    update inventory.drops d
    set
      available_stock = d.available_stock - v_decision.units,
      nothing_due_before = least(v_drop.nothing_due_before, v_expires_at),
      updated_at = now()
    where d.id = p_drop_id
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
          v_new_ids[d.taker_n], p_drop_id, d.variant_id, d.user_id, p_basket_ids[d.taker_n], d.qty, d.unit_price, v_drop.currency,
          d.qty * d.unit_price, 'ACTIVE', v_expires_at, null, now(), now())::api.reservation_row)
    end
  from decision d
  order by d.n;
end
$$;

comment on function inventory.reserve_on_drop(uuid, api.reserve_request[], integer, uuid[]) is
'Hold units of a drop for each of many requests, in the order given; one outcome per request, nothing raised for a refusal.';
