-- inventory.purchase_decisions: decide what becomes of each purchase request on one drop: a sale, a replay or a refusal.
--
-- Purpose: a step of inventory.purchase_on_drop, after the holds were consumed. It reads and decides, and writes nothing.
-- p_hold_ids[n] is the hold that request n meant to consume, p_hold_is_due[n] whether it had run out. p_live_count is the
-- number of different holds that should be consumed, p_consumed_ids are the holds that were consumed. If one is missing, another
-- transaction changed it: a cancel, a sweep, or a copy of the request. This statement has a later snapshot, so it sees the new
-- status.
--
-- A row of the answer, one for each request:
--   n                 the number of the request
--   leader_n          the number of the request that leads: the first in this call that means the same hold
--   hold_id           that hold
--   is_sold           the hold was consumed, and the request leads or repeats its leader's Idempotency-Key
--   code              the refusal, or null
--   replayed          it repeats an Idempotency-Key: that of an earlier call (then `earlier` is its purchase), or its leader's
--
-- Locks: none. Errors: none. A repeated Idempotency-Key is no error: the answer is the first purchase as it is now.
--
-- Plans: as in inventory.reserve_decisions.

create or replace function inventory.purchase_decisions(
  p_drop_id uuid,
  p_drop_exists boolean,
  p_requests api.purchase_request[],
  p_hold_ids uuid[],
  p_hold_is_due boolean[],
  p_live_count integer,
  p_consumed_ids uuid[]
)
returns table (
  n integer,
  leader_n integer,
  user_id uuid,
  idempotency_key text,
  hold_id uuid,
  is_sold boolean,
  code text,
  replayed boolean,
  earlier api.purchase
)
language sql stable
as $$
  with request as materialized (
    select
      q.n,
      q.user_id,
      q.idempotency_key,
      q.hold_id,
      coalesce(
        not q.is_due and (cardinality(p_consumed_ids) = p_live_count or q.hold_id = any (p_consumed_ids)), false) as is_consumed,
      earlier.id is not null as repeats_earlier,
      earlier.purchase as earlier,
      known.id is not null as user_exists,
      lost_hold.status as hold_status
    from (
      select
        u.ordinality::integer as n, u.user_id, u.idempotency_key, p_hold_ids[u.ordinality] as hold_id,
        p_hold_is_due[u.ordinality] as is_due
      from unnest(p_requests) with ordinality u
    ) q
    left join lateral (
      select p.id, inventory.purchase_row(p) as purchase
      from inventory.purchases p
      where p.drop_id = p_drop_id and p.user_id = q.user_id and p.idempotency_key = q.idempotency_key
      limit 1
    ) earlier on true
    left join lateral (
      select u.id from inventory.users u where q.hold_id is null and u.id = q.user_id limit 1
    ) known on true
    left join lateral (
      select r.status
      from inventory.reservations r
      where (q.is_due or cardinality(p_consumed_ids) is distinct from p_live_count)
        and r.id = q.hold_id and r.drop_id = p_drop_id
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
    q.n,
    q.leader_n,
    q.user_id,
    q.idempotency_key,
    q.hold_id,
    q.is_consumed and (q.leads or q.repeats_leader),
    inventory.purchase_refusal(
      q.is_consumed, q.leads, q.repeats_leader, q.repeats_earlier,
      q.hold_id is not null, q.hold_status, q.user_exists, p_drop_exists),
    q.repeats_earlier or (q.is_consumed and q.repeats_leader),
    q.earlier
  from led q
$$;

comment on function inventory.purchase_decisions(uuid, boolean, api.purchase_request[], uuid[], boolean[], integer, uuid[]) is
'What becomes of each purchase request on a drop, once the holds were consumed. Reads and decides, writes nothing.';
