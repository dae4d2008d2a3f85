-- inventory.reserve_facts: what the tables say about each reserve request on one drop, before any of them is decided.
--
-- Purpose: a step of inventory.reserve_decisions. It reads, and decides nothing.
--
-- A row of the answer, one for each request, in their order:
--   n                  the number of the request
--   first_of_user      the number of the first request of this user in the call
--   variant_n          the place of its variant in p_variant_ids; 1 if the drop has none, null if it names none of them
--   user_exists
--   earlier            the reservation of the same Idempotency-Key, or null
--   holds              the user holds this variant already
--
-- What the terms of a drop ask for, a limit for example, is in inventory.term_facts.
--
-- Locks: none. Errors: none.
--
-- Plans: this is a plain SQL function without settings, so that PostgreSQL puts its query into the statement that calls it, which
-- is planned once for the session (db/README.md). Each request probes the tables in a lateral subquery with a limit, because that
-- cannot be turned into a join of another order. array_position is quadratic, but of 256 users it takes 1 us, and a window function
-- takes more.

create or replace function inventory.reserve_facts(
  p_drop_id uuid,
  p_variant_ids uuid[],
  p_user_ids uuid[],
  p_requests api.reserve_request[]
)
returns table (
  n integer,
  first_of_user integer,
  user_id uuid,
  variant_id uuid,
  qty integer,
  idempotency_key text,
  variant_n integer,
  user_exists boolean,
  earlier api.reservation_row,
  holds boolean
)
language sql stable
as $$
  select
    q.ordinality::integer,
    array_position(p_user_ids, q.user_id),
    q.user_id,
    q.variant_id,
    coalesce(q.qty, 1),
    q.idempotency_key,
    case when p_variant_ids = '{}' and q.variant_id is null then 1 else array_position(p_variant_ids, q.variant_id) end,
    known.id is not null,
    earlier.reservation,
    own_hold.id is not null
  from unnest(p_requests) with ordinality q
  left join lateral (
    select u.id from inventory.users u where u.id = q.user_id limit 1
  ) known on true
  left join lateral (
    select r.id
    from inventory.reservations r
    where r.drop_id = p_drop_id and r.user_id = q.user_id and r.status = 'ACTIVE'
      and r.variant_id is not distinct from q.variant_id
    limit 1
  ) own_hold on true
  left join lateral (
    select inventory.reservation_row(r) as reservation
    from inventory.reservations r
    where r.drop_id = p_drop_id and r.user_id = q.user_id and r.idempotency_key = q.idempotency_key
    limit 1
  ) earlier on true
  order by q.ordinality
$$;

comment on function inventory.reserve_facts(uuid, uuid[], uuid[], api.reserve_request[]) is
'What the tables say about each reserve request on a drop. Reads, decides nothing.';
