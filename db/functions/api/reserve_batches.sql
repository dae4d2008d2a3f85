-- api.reserve_batches: superseded in 0.2; a process of 0.1 calls it during a rolling deployment. Remove it in 0.3.
--
-- Locks and errors: those of api.reserve_batch.

create or replace function api.reserve_batches(
  p_drop_ids uuid[],
  p_user_ids uuid[],
  p_idempotency_keys text[],
  p_ttl_seconds integer default 60
)
returns setof api.outcome
language sql security definer
set search_path = pg_catalog, pg_temp
as $$
  select o.*
  from api.reserve_batch(
    array(
      select row(q.drop_id, q.user_id, q.idempotency_key, null, null)::api.reserve_request
      from rows from (unnest(p_drop_ids), unnest(p_user_ids), unnest(p_idempotency_keys))
        with ordinality as q (drop_id, user_id, idempotency_key, n)
      order by q.n
    ),
    p_ttl_seconds) o
$$;

comment on function api.reserve_batches(uuid[], uuid[], text[], integer) is
'Superseded in 0.2 by api.reserve_batch(api.reserve_request[]); removed in 0.3.';
