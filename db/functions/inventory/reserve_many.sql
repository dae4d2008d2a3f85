-- inventory.reserve_many: hold one unit of a drop for each of many requests, in the order given.
--
-- Purpose: the one implementation of reserving; api.reserve and api.reserve_batch are its faces. Requests of one user on one
-- drop in one call behave as if they came one after the other, and arrival order decides who gets the last units.
--
-- Locks, in this order: the drop's row, unless no request can take a unit (then nothing is locked or written); due
-- reservations, with skip locked. Every hold is inserted by a holder of the drop's lock, so its unique keys never collide.
--
-- Errors: VALIDATION_ERROR (a key, p_ttl_seconds). Nothing else is raised; each request has its code: AUTH_REQUIRED,
-- DROP_NOT_FOUND, DROP_NOT_ACTIVE, ALREADY_RESERVED, OUT_OF_STOCK. A repeated Idempotency-Key is no error whatever became
-- of the drop: it answers the first reservation as it is now.
--
-- Plans: a drop starts with empty tables and sessions keep their plans, so the plan must be the same index walk from the
-- first row on, without ANALYZE. Each request probes the tables in a lateral subquery with a limit, which cannot be
-- reordered into a join.

create or replace function inventory.reserve_many(
  p_drop_id uuid,
  p_user_ids uuid[],
  p_idempotency_keys text[],
  p_ttl_seconds integer
)
returns table (n integer, code text, replayed boolean, reservation api.reservation)
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_drop inventory.drops;
  v_active boolean;
  v_own uuid[];
begin
  if p_ttl_seconds is null or p_ttl_seconds not between 1 and 86400 then
    perform inventory.refuse('VALIDATION_ERROR', 'p_ttl_seconds: must be between 1 and 86400');
  end if;
  perform inventory.check_keys(p_idempotency_keys);

  select * into v_drop from inventory.drops d where d.id = p_drop_id;
  v_active := inventory.is_active(v_drop);

  -- When sold out, whether something is due decides if the lock is worth having.
  if v_active and (v_drop.available_stock > 0 or inventory.has_due(p_drop_id)) then
    select * into v_drop from inventory.drops d where d.id = p_drop_id for no key update;
    v_active := inventory.is_active(v_drop);

    -- Asked again under the lock, for others may have taken them back meanwhile. What is due is taken back here even where stock
    -- is plenty: a sweep does not wait for the lock of a drop that is never free. A user's own stale hold is in the way of the
    -- next one and goes first.
    if v_active and inventory.has_due(p_drop_id) then
      v_own := array(
        select h.id
        from unnest(p_user_ids) as q (user_id)
        cross join lateral (
          select r.id, r.expires_at
          from inventory.reservations r
          where r.drop_id = p_drop_id and r.user_id = q.user_id and r.status = 'ACTIVE'
          limit 1
        ) h
        where h.expires_at <= now()
      );
      perform from inventory.expire_many(p_drop_id, v_own);
      perform from inventory.expire_many(p_drop_id, inventory.due_reservations(p_drop_id, cardinality(p_user_ids)));
      select * into v_drop from inventory.drops d where d.id = p_drop_id;
    end if;
  end if;

  return query
  with request as materialized (
    select
      q.n,
      q.user_id,
      q.idempotency_key,
      prior.id is not null as found,
      prior.reservation,
      case
        when prior.id is not null then null
        when known.id is null then 'AUTH_REQUIRED'
        when v_drop.id is null then 'DROP_NOT_FOUND'
        when not v_active then 'DROP_NOT_ACTIVE'
        when held.id is not null then 'ALREADY_RESERVED'
      end as code,
      prior.id is null and known.id is not null and v_active and held.id is null as wants,
      inventory.uuid_v7() as new_id
    from rows from (unnest(p_user_ids), unnest(p_idempotency_keys)) with ordinality as q (user_id, idempotency_key, n)
    left join lateral (
      select u.id from inventory.users u where u.id = q.user_id limit 1
    ) known on true
    left join lateral (
      select r.id
      from inventory.reservations r
      where r.drop_id = p_drop_id and r.user_id = q.user_id and r.status = 'ACTIVE'
      limit 1
    ) held on true
    left join lateral (
      select r.id, inventory.reservation_row(r) as reservation
      from inventory.reservations r
      where r.drop_id = p_drop_id and r.user_id = q.user_id and r.idempotency_key = q.idempotency_key
      limit 1
    ) prior on true
  ),
  -- A user's first request for a unit speaks for the later ones in this call: they share its place in line.
  queued as (
    select
      q.*,
      first_value(q.n) over same_user as first_n,
      first_value(q.new_id) over same_user as first_id,
      first_value(q.idempotency_key) over same_user as first_key
    from request q
    window same_user as (partition by q.user_id, q.wants order by q.n)
  ),
  -- First come, first served: the first available_stock users in line get a unit each.
  decided as materialized (
    select
      q.*,
      q.wants
        and v_drop.available_stock >= count(*) filter (where q.wants and q.n = q.first_n) over (order by q.first_n) as granted,
      coalesce(q.n > q.first_n and q.idempotency_key = q.first_key, false) as repeats_first
    from queued q
  ),
  held as (
    insert into inventory.reservations (id, drop_id, user_id, expires_at, idempotency_key)
    select d.new_id, p_drop_id, d.user_id, now() + make_interval(secs => p_ttl_seconds), d.idempotency_key
    from decided d
    where d.granted and d.n = d.first_n
    order by d.n
  ),
  taken as (
    update inventory.drops d
    set available_stock = d.available_stock - t.units, updated_at = now()
    from (select count(*) as units from decided where granted and n = first_n) t
    where d.id = p_drop_id and t.units > 0
  )
  select
    d.n::integer,
    case
      when not d.wants then d.code
      when not d.granted then 'OUT_OF_STOCK'
      when d.n > d.first_n and not d.repeats_first then 'ALREADY_RESERVED'
    end,
    d.found or (d.granted and d.repeats_first),
    case
      when d.found then d.reservation
      when d.granted and (d.n = d.first_n or d.repeats_first) then
        row(
          d.first_id, p_drop_id, d.user_id, 'ACTIVE', now() + make_interval(secs => p_ttl_seconds), now(), now()
        )::api.reservation
    end
  from decided d
  order by d.n;
end
$$;

comment on function inventory.reserve_many(uuid, uuid[], text[], integer) is
'Hold one unit of a drop for each of many requests, in the order given; one outcome a request, nothing raised for a refusal.';
