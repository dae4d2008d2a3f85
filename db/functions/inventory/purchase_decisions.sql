-- inventory.purchase_decisions: decide what becomes of each purchase request: a sale, a replay or a refusal.
--
-- Purpose: a step of inventory.purchase_on_drops, after the holds were consumed. It reads and decides, and writes nothing.
-- p_holds[n] is the hold that request n meant to consume. p_live_count is the number of different holds that should be consumed,
-- p_consumed_ids are those that were. If one is missing, another transaction changed it: a cancel, a sweep, or a copy of the
-- request. This statement has a later snapshot, so it sees the new status.
--
-- A row of the answer, one for each request:
--   n                 the number of the request
--   leader_n          the number of the request that leads: the first in this call that means the same hold
--   is_sold           the hold was consumed, and the request leads or repeats its leader's Idempotency-Key
--   code              the refusal, or null
--   replayed          it repeats an Idempotency-Key: that of an earlier call (then `earlier` is its purchase), or its leader's
--
-- Locks: none. Errors: none. A repeated Idempotency-Key is no error: the answer is the first purchase as it is now. It is one if
-- the request names another reservation.
--
-- Plans: as in inventory.reserve_facts.

create or replace function inventory.purchase_decisions(
  p_requests api.purchase_request[],
  p_holds inventory.hold_facts[],
  p_live_count integer,
  p_consumed_ids uuid[]
)
returns table (
  n integer,
  leader_n integer,
  drop_id uuid,
  user_id uuid,
  idempotency_key text,
  hold_id uuid,
  variant_id uuid,
  qty integer,
  unit_price numeric,
  currency text,
  is_sold boolean,
  code text,
  replayed boolean,
  earlier api.purchase_row
)
language sql stable
as $$
  with request as materialized (
    select
      q.*,
      coalesce(
        not q.is_due and (cardinality(p_consumed_ids) = p_live_count or q.hold_id = any (p_consumed_ids)), false) as is_consumed,
      earlier.id is not null as repeats_earlier,
      earlier.reservation_id <> q.reservation_id as earlier_differs,
      earlier.purchase as earlier,
      q.hold_id is not null or known.id is not null as user_exists,
      case
        when q.hold_id is null then inventory.newest_hold_status(q.drop_id, q.user_id, q.reservation_id)
        else lost_hold.status
      end as hold_status,
      case when q.hold_id is null or q.is_due or cardinality(p_consumed_ids) is distinct from p_live_count then
        (select d.status from inventory.drops d where d.id = q.drop_id)
      end as drop_status
    from rows from (unnest(p_requests), unnest(p_holds)) with ordinality as q (
      drop_id, user_id, idempotency_key, reservation_id, hold_id, is_due, has_several, variant_id, qty, unit_price, currency, n)
    left join lateral (
      select p.id, p.reservation_id, inventory.purchase_row(p) as purchase
      from inventory.purchases p
      where p.drop_id = q.drop_id and p.user_id = q.user_id and p.idempotency_key = q.idempotency_key
      limit 1
    ) earlier on true
    left join lateral (
      select u.id from inventory.users u where q.hold_id is null and u.id = q.user_id limit 1
    ) known on true
    left join lateral (
      select r.status
      from inventory.reservations r
      where (q.is_due or cardinality(p_consumed_ids) is distinct from p_live_count)
        and r.id = q.hold_id and r.drop_id = q.drop_id
      limit 1
    ) lost_hold on true
  ),
  -- The first request in this call that means a hold leads the later ones: it consumes the hold, they find it gone.
  led as (
    select
      q.*,
      first_value(q.n) over same_hold as leader_n,
      q.n = first_value(q.n) over same_hold as leads,
      q.n <> first_value(q.n) over same_hold
        and coalesce(q.idempotency_key = first_value(q.idempotency_key) over same_hold, false) as repeats_leader
    from request q
    window same_hold as (partition by q.hold_id order by q.n)
  )
  select
    q.n::integer,
    q.leader_n::integer,
    q.drop_id,
    q.user_id,
    q.idempotency_key,
    q.hold_id,
    q.variant_id,
    q.qty,
    q.unit_price,
    q.currency,
    q.is_consumed and (q.leads or q.repeats_leader),
    inventory.purchase_refusal(
      q.is_consumed, q.leads, q.repeats_leader, q.repeats_earlier, q.earlier_differs,
      q.hold_status, q.has_several, q.reservation_id is not null, q.user_exists, q.drop_status),
    (q.repeats_earlier and q.earlier_differs is not true) or (q.is_consumed and q.repeats_leader),
    q.earlier
  from led q
$$;

comment on function
inventory.purchase_decisions(api.purchase_request[], inventory.hold_facts[], integer, uuid[]) is
'What becomes of each purchase request, once the holds were consumed. Reads and decides, writes nothing.';
