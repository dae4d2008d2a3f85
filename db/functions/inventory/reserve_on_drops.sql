-- inventory.reserve_on_drops: hold units of drops for each of many requests, in the order given.
--
-- Purpose: the one implementation of reserving; api.reserve calls it for one request, api.reserve_batch for many. The requests
-- behave as if they came one after the other. inventory.reserve_baskets goes the same steps for the items of baskets.
--
-- Steps: inventory.prepare_drops locks the drops of which a unit can be taken and takes back what is due;
-- inventory.reserve_decisions says what becomes of each request; inventory.write_holds writes it, for all drops in one statement.
--
-- Locks, in this order: the rows of the drops, in the order of their ids, but not of one from which no request can take a unit (if
-- that is so of all, nothing is locked or written); due reservations, with skip locked. Variants are written under the drop's lock
-- only.
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
  p_ttl_seconds integer
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
  v_decision record;
  v_holds api.reservation_row[];
begin
  perform inventory.check_reserve_requests(p_requests, p_ttl_seconds);
  if cardinality(p_requests) <> 1 then
    v_drop_ids := array(select distinct q.drop_id from unnest(p_requests) q order by q.drop_id);
  end if;

  v_prepared := inventory.prepare_drops(v_drop_ids, p_requests);
  v_variants := array(select v from inventory.variants v where v.drop_id = any (v_drop_ids) order by v.drop_id, v.id);
  v_decision := inventory.reserve_decisions(v_drop_ids, v_prepared.drops, v_variants, p_requests);

  if 0 < any (v_decision.units) then
    v_holds := inventory.write_holds(
      v_drop_ids, v_prepared.drops, v_variants, p_requests, v_decision.taker_ns, v_decision.drop_ns, v_decision.units,
      v_prepared.due_ids, p_ttl_seconds);
  end if;
  return query
  select
    q.n::integer, q.code, q.message, q.code is null and q.taker_n is distinct from q.n,
    coalesce(v_decision.earlier[q.n], v_holds[q.taker_n])
  from rows from (unnest(v_decision.codes), unnest(v_decision.messages), unnest(v_decision.taker_ns))
    with ordinality as q (code, message, taker_n, n)
  order by q.n;
end
$$;

comment on function inventory.reserve_on_drops(api.reserve_request[], integer) is
'Hold units of drops for each of many requests, in the order given; one outcome per request, nothing raised for a refusal.';
