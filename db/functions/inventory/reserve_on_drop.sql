-- inventory.reserve_on_drop: hold one unit of a drop for each of many requests, in the order given.
--
-- Purpose: the one implementation of reserving; api.reserve calls it for one request, api.reserve_batch for many. Requests of one
-- user in one call behave as if they came one after the other, and the order of the requests decides which of them get the last
-- units. All requests are for p_drop_id; their own drop_id is not looked at.
--
-- Steps: inventory.prepare_drop locks the drop if a unit can be taken and takes back what is due; inventory.reserve_decisions
-- says what becomes of each request; this function writes it.
--
-- Locks, in this order: the drop's row, unless no request can take a unit (then nothing is locked or written); due reservations,
-- with skip locked. Every hold is inserted under the drop's lock, so its unique keys never collide.
--
-- Errors: VALIDATION_ERROR (a key, p_ttl_seconds). Nothing else is raised; each request has its code: AUTH_REQUIRED,
-- DROP_NOT_FOUND, DROP_NOT_ACTIVE, ALREADY_RESERVED, OUT_OF_STOCK.
--
-- Plans: a drop starts with empty tables and a session keeps its plans, so the plan must be the same index walk from the first
-- row on, without ANALYZE (db/README.md).
--
-- "rows" keeps the estimated cost of a call for many drops far below what starts PostgreSQL's JIT compiler.

create or replace function inventory.reserve_on_drop(p_drop_id uuid, p_requests api.reserve_request[], p_ttl_seconds integer)
returns table (n integer, code text, replayed boolean, reservation api.reservation)
language plpgsql rows 10
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_drop inventory.drops;
  v_drop_refusal text;
  v_expires_at timestamptz;
  v_new_ids uuid[]; -- an id for each request, in case a unit is taken for it
begin
  if p_ttl_seconds is null or p_ttl_seconds not between 1 and 86400 then
    perform inventory.refuse('VALIDATION_ERROR', 'p_ttl_seconds: must be between 1 and 86400');
  end if;
  perform inventory.check_idempotency_keys(array(select q.idempotency_key from unnest(p_requests) q));

  v_drop := inventory.prepare_drop(p_drop_id, p_requests);
  v_drop_refusal := case
    when v_drop.id is null then 'DROP_NOT_FOUND'
    when not inventory.is_on_sale(v_drop) then 'DROP_NOT_ACTIVE'
  end;
  v_expires_at := now() + make_interval(secs => p_ttl_seconds);
  v_new_ids := array(select inventory.uuid_v7() from unnest(p_requests));

  return query
  with decision as materialized (
    select * from inventory.reserve_decisions(p_drop_id, v_drop_refusal, v_drop.available_stock, p_requests)
  ),
  new_hold as (
    insert into inventory.reservations (id, drop_id, user_id, expires_at, idempotency_key)
    select v_new_ids[d.n], p_drop_id, d.user_id, v_expires_at, d.idempotency_key
    from decision d
    where d.takes_unit
    order by d.n
  ),
  stock_taken as (
    update inventory.drops d
    set available_stock = d.available_stock - taken.units, updated_at = now()
    from (select count(*) as units from decision where decision.takes_unit) taken
    where d.id = p_drop_id and taken.units > 0
  )
  select
    d.n,
    d.code,
    d.replayed,
    case when d.code is null then
      coalesce(
        d.earlier,
        row(v_new_ids[d.leader_n], p_drop_id, d.user_id, 'ACTIVE', v_expires_at, now(), now())::api.reservation)
    end
  from decision d
  order by d.n;
end
$$;

comment on function inventory.reserve_on_drop(uuid, api.reserve_request[], integer) is
'Hold one unit of a drop for each of many requests, in the order given; one outcome per request, nothing raised for a refusal.';
