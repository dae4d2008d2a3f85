-- inventory.purchase_on_drop: turn the holds of many users on one drop into purchases, in the order given.
--
-- Purpose: the one implementation of purchasing; api.purchase calls it for one request, api.purchase_batch for many. Requests of
-- one user in one call behave as if they came one after the other. All requests are for p_drop_id; their own drop_id is not
-- looked at.
--
-- Steps: inventory.find_holds finds the holds; inventory.lock_and_expire_holds gives back those that have run out, if there
-- are any; the live ones are consumed here; inventory.purchase_decisions says what becomes of each request; the sales are
-- written here.
--
-- Locks, in this order: the drop's row, only if one of the holds has run out and its unit must go back; reservations in the order
-- of their ids. Otherwise the drop is left alone, because the reserve has taken the stock already.
--
-- Errors: VALIDATION_ERROR (a key). Nothing else is raised; each request has its code: AUTH_REQUIRED, DROP_NOT_FOUND,
-- NO_ACTIVE_RESERVATION, RESERVATION_EXPIRED.
--
-- Plans: as in inventory.reserve_on_drop and inventory.expire_due. = any (array) visits the primary key in its order, so that
-- the update locks reservations in the order of their ids.
--
-- "rows" keeps the estimated cost of a call for many drops far below what starts PostgreSQL's JIT compiler.

create or replace function inventory.purchase_on_drop(p_drop_id uuid, p_requests api.purchase_request[])
returns table (n integer, code text, replayed boolean, purchase api.purchase)
language plpgsql rows 10
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_drop_exists boolean := exists (select from inventory.drops d where d.id = p_drop_id);
  v_hold_ids uuid[];       -- for each request the hold that it means to consume, or null
  v_hold_is_due boolean[]; -- for each request: has that hold run out?
  v_live_ids uuid[];
  v_due_ids uuid[];
  v_consumed_ids uuid[];
  v_new_ids uuid[];        -- an id for each request, in case it buys a unit
begin
  perform inventory.check_idempotency_keys(array(select q.idempotency_key from unnest(p_requests) q));

  select
    array_agg(h.hold_id order by h.n),
    array_agg(h.is_due order by h.n),
    array_agg(distinct h.hold_id) filter (where not h.is_due),
    array_agg(distinct h.hold_id) filter (where h.is_due)
  into v_hold_ids, v_hold_is_due, v_live_ids, v_due_ids
  from inventory.find_holds(p_drop_id, p_requests) h;

  if v_due_ids is not null then
    perform inventory.lock_and_expire_holds(p_drop_id, v_live_ids, v_due_ids);
  end if;

  with consumed as (
    update inventory.reservations r
    set status = 'CONSUMED', updated_at = now()
    where r.id = any (v_live_ids) and r.drop_id = p_drop_id
      and r.status <> all (array['EXPIRED', 'CANCELLED', 'CONSUMED'])
    returning r.id
  )
  select array_agg(consumed.id) into v_consumed_ids from consumed;

  v_new_ids := array(select inventory.uuid_v7() from unnest(p_requests));
  return query
  with decision as materialized (
    select *
    from inventory.purchase_decisions(
      p_drop_id, v_drop_exists, p_requests, v_hold_ids, v_hold_is_due, cardinality(v_live_ids), v_consumed_ids)
  ),
  sale as (
    insert into inventory.purchases (id, drop_id, reservation_id, user_id, status, idempotency_key)
    select v_new_ids[d.n], p_drop_id, d.hold_id, d.user_id, 'paid', d.idempotency_key
    from decision d
    where d.is_sold and d.n = d.leader_n
    order by d.n
  )
  select
    d.n,
    d.code,
    d.replayed,
    case
      when d.is_sold then row(v_new_ids[d.leader_n], p_drop_id, d.hold_id, d.user_id, 1, 'paid', now(), now())::api.purchase
      when d.code is null then d.earlier
    end
  from decision d
  order by d.n;
end
$$;

comment on function inventory.purchase_on_drop(uuid, api.purchase_request[]) is
'Turn the holds of many users on one drop into purchases; one outcome per request, nothing raised for a refusal.';
