-- api.reserve_batches: api.reserve_batch for several drops in one transaction, so that they share its commit.
--
-- Purpose: every commit that is announced passes alone, so many drops in a call each sell a few hundred units a second together;
-- many drops that share a call sell as one hot drop does. For a single drop call api.reserve_batch.
-- Each drop is still one call of a function that touches it alone; where drops are distributed, make those calls instead.
--
-- Locks: drop by drop in the order of their ids, as inventory.reserve_many does. Whoever waits here holds up the drops before,
-- so it does not wait long. Errors: lock_not_available (55P03) after 100 ms at any one lock, and nothing is done; call for each
-- drop alone then. Codes: see inventory.reserve_many.

create or replace function api.reserve_batches(
  p_drop_ids uuid[],
  p_user_ids uuid[],
  p_idempotency_keys text[],
  p_ttl_seconds integer default 60
)
returns setof api.outcome
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '100ms'
as $$
begin
  return query
  select lane.ns[o.n], o.status, o.code, o.message, o.replayed, o.data
  from (
    select
      q.drop_id,
      array_agg(q.n::integer order by q.n) as ns,
      array_agg(q.user_id order by q.n) as user_ids,
      array_agg(q.idempotency_key order by q.n) as idempotency_keys
    from rows from (unnest(p_drop_ids), unnest(p_user_ids), unnest(p_idempotency_keys))
      with ordinality as q (drop_id, user_id, idempotency_key, n)
    group by q.drop_id
    order by q.drop_id
  ) lane
  cross join lateral api.reserve_batch(lane.drop_id, lane.user_ids, lane.idempotency_keys, p_ttl_seconds) o
  order by lane.ns[o.n];
end
$$;

comment on function api.reserve_batches(uuid[], uuid[], text[], integer) is
'Hold one unit for each user, of several drops at once. Request n is p_drop_ids[n] for p_user_ids[n] with p_idempotency_keys[n]
(null: no key); the answer has one row a request, as that of reserve_batch. Waits no longer than 100 ms for a lock (55P03).';
