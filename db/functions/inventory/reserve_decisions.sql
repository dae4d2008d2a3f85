-- inventory.reserve_decisions: decide what becomes of each reserve request on one drop: a unit, a replay or a refusal.
--
-- Purpose: the middle step of inventory.reserve_on_drop. It reads and decides, and writes nothing. p_drop_refusal is the refusal
-- of every request for a new unit (DROP_NOT_FOUND, DROP_NOT_ACTIVE), or null if the drop is on sale.
--
-- A row of the answer, one for each request:
--   n                 the number of the request
--   leader_n          the number of the request that leads: the same user's first in this call that wants a unit
--   takes_unit        a unit is taken for it
--   code              the refusal, or null
--   replayed          it repeats an Idempotency-Key: that of an earlier call (then `earlier` is its reservation), or its leader's
--
-- Locks: none. Errors: none. A repeated Idempotency-Key is no error, not even if the drop is over: the answer is the first
-- reservation as it is now.
--
-- Plans: this is a plain SQL function without settings, so that PostgreSQL puts its query into the statement that calls it, which
-- is planned once for the session (db/README.md). Each request probes the tables in a lateral subquery with a limit, because that
-- cannot be turned into a join of another order.

create or replace function inventory.reserve_decisions(
  p_drop_id uuid,
  p_drop_refusal text,
  p_available_stock integer,
  p_requests api.reserve_request[]
)
returns table (
  n integer,
  leader_n integer,
  user_id uuid,
  idempotency_key text,
  takes_unit boolean,
  code text,
  replayed boolean,
  earlier api.reservation
)
language sql stable
as $$
  with request as materialized (
    select
      q.ordinality::integer as n,
      q.user_id,
      q.idempotency_key,
      earlier.reservation as earlier,
      earlier.id is not null as repeats_earlier,
      case
        when known.id is null then 'AUTH_REQUIRED'
        when p_drop_refusal is not null then p_drop_refusal
        when own_hold.id is not null then 'ALREADY_RESERVED'
      end as refusal
    from unnest(p_requests) with ordinality q
    left join lateral (
      select u.id from inventory.users u where u.id = q.user_id limit 1
    ) known on true
    left join lateral (
      select r.id
      from inventory.reservations r
      where r.drop_id = p_drop_id and r.user_id = q.user_id and r.status = 'ACTIVE'
      limit 1
    ) own_hold on true
    left join lateral (
      select r.id, inventory.reservation_row(r) as reservation
      from inventory.reservations r
      where r.drop_id = p_drop_id and r.user_id = q.user_id and r.idempotency_key = q.idempotency_key
      limit 1
    ) earlier on true
  ),
  -- A user's first request for a unit leads the user's later ones in this call: they share its place in the queue.
  led as (
    select
      q.*,
      not q.repeats_earlier and q.refusal is null as wants_unit,
      first_value(q.n) over same_user as leader_n,
      coalesce(q.idempotency_key = first_value(q.idempotency_key) over same_user, false) as has_leaders_key
    from request q
    window same_user as (partition by q.user_id, not q.repeats_earlier and q.refusal is null order by q.n)
  ),
  -- First come, first served: the first p_available_stock leaders in the queue get a unit each.
  queued as (
    select
      q.*,
      q.wants_unit and p_available_stock
        >= count(*) filter (where q.wants_unit and q.n = q.leader_n) over (order by q.leader_n) as leader_has_unit
    from led q
  )
  select
    q.n,
    q.leader_n,
    q.user_id,
    q.idempotency_key,
    q.leader_has_unit and q.n = q.leader_n,
    case
      when q.repeats_earlier then null
      when q.refusal is not null then q.refusal
      when not q.leader_has_unit then 'OUT_OF_STOCK'
      when q.n <> q.leader_n and not q.has_leaders_key then 'ALREADY_RESERVED'
    end,
    q.repeats_earlier or (q.leader_has_unit and q.n <> q.leader_n and q.has_leaders_key),
    q.earlier
  from queued q
$$;

comment on function inventory.reserve_decisions(uuid, text, integer, api.reserve_request[]) is
'What becomes of each reserve request on a drop with so many available units. Reads and decides, writes nothing.';
