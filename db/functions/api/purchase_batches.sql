-- api.purchase_batches: superseded in 0.2; a process of 0.1 calls it during a rolling deployment. Remove it in 0.3.
--
-- Locks and errors: those of api.purchase_batch.

create or replace function api.purchase_batches(p_drop_ids uuid[], p_user_ids uuid[], p_idempotency_keys text[])
returns setof api.outcome
language sql security definer
set search_path = pg_catalog, pg_temp
as $$
  select o.*
  from api.purchase_batch(
    array(
      select row(q.drop_id, q.user_id, q.idempotency_key, null)::api.purchase_request
      from rows from (unnest(p_drop_ids), unnest(p_user_ids), unnest(p_idempotency_keys))
        with ordinality as q (drop_id, user_id, idempotency_key, n)
      order by q.n
    )) o
$$;

comment on function api.purchase_batches(uuid[], uuid[], text[]) is
'Superseded in 0.2 by api.purchase_batch(api.purchase_request[]); removed in 0.3.';
