-- inventory.reserve_facts: what the tables say about each reserve request, before any of them is decided.
--
-- Purpose: a step of inventory.reserve_decisions. It reads, and decides nothing.
--
-- What is given, besides the requests:
--   p_drop_ids          the drops of the requests
--   p_has_variants      of each drop, whether it has variants
--   p_variant_drop_ids  of each variant of these drops, its drop,
--   p_variant_ids       and its id
--   p_user_ids          the users of the requests, in their order
--
-- A row of the answer, one for each request, in their order:
--   n                  the number of the request
--   drop_n             the place of its drop in p_drop_ids
--   first_of_user      the number of the first request of this user in the call
--   stock_n            the place of what it asks for among all drops and, after them, all variants; null if it names no variant of
--                      a drop that has some, or one that the drop does not have
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
  p_drop_ids uuid[],
  p_has_variants boolean[],
  p_variant_drop_ids uuid[],
  p_variant_ids uuid[],
  p_user_ids uuid[],
  p_requests api.reserve_request[]
)
returns table (
  n integer,
  drop_n integer,
  first_of_user integer,
  user_id uuid,
  variant_id uuid,
  qty integer,
  idempotency_key text,
  stock_n integer,
  user_exists boolean,
  earlier api.reservation_row,
  holds boolean
)
language sql stable
as $$
  select
    q.ordinality::integer,
    place.drop_n,
    array_position(p_user_ids, q.user_id),
    q.user_id,
    q.variant_id,
    coalesce(q.qty, 1),
    q.idempotency_key,
    case
      when q.variant_id is null then case when not p_has_variants[place.drop_n] then place.drop_n end
      when p_variant_drop_ids[place.variant_n] = q.drop_id then cardinality(p_drop_ids) + place.variant_n
    end,
    known.id is not null,
    earlier.reservation,
    own_hold.id is not null
  from unnest(p_requests) with ordinality q
  cross join lateral (
    select array_position(p_drop_ids, q.drop_id) as drop_n, array_position(p_variant_ids, q.variant_id) as variant_n
  ) place
  left join lateral (
    select u.id from inventory.users u where u.id = q.user_id limit 1
  ) known on true
  left join lateral (
    select r.id
    from inventory.reservations r
    where r.drop_id = q.drop_id and r.user_id = q.user_id and r.status = 'ACTIVE'
      and r.variant_id is not distinct from q.variant_id
    limit 1
  ) own_hold on true
  left join lateral (
    select inventory.reservation_row(r) as reservation
    from inventory.reservations r
    where r.drop_id = q.drop_id and r.user_id = q.user_id and r.idempotency_key = q.idempotency_key
    limit 1
  ) earlier on true
  order by q.ordinality
$$;

comment on function
inventory.reserve_facts(uuid[], boolean[], uuid[], uuid[], uuid[], api.reserve_request[]) is
'What the tables say about each reserve request. Reads, decides nothing.';
