-- api.purchase_batch: sell holds for many requests on any drops: one outcome per request, nothing raised for a refusal.
--
-- Purpose: calls inventory.purchase_on_drop for many requests. Requests on several drops share one commit.
--
-- Locks: drop by drop in the order of their ids, as inventory.purchase_on_drop takes them. Errors: VALIDATION_ERROR (a key); with
-- several drops lock_not_available (55P03) after 100 ms at a lock. Then nothing is done for any request, and the caller sends the
-- requests of each drop in a call of their own. Codes of refusals: see inventory.purchase_on_drop.

create or replace function api.purchase_batch(p_requests api.purchase_request[])
returns setof api.outcome
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  v_drop_ids uuid[] := array(select q.drop_id from unnest(p_requests) q);
  v_lock_timeout text := current_setting('lock_timeout');
begin
  if v_drop_ids[1] = all (v_drop_ids) then -- the common case, which needs no grouping
    return query
    select
      o.n, coalesce(e.status, case when o.replayed then 200 else 201 end), o.code, e.message, o.replayed, to_json(o.purchase)
    from inventory.purchase_on_drop(v_drop_ids[1], p_requests) o
    left join api.errors() e on e.code = o.code
    order by o.n;
    return;
  end if;

  -- The locks of the first drops are held while the next one is waited for, so that must not take long.
  perform set_config('lock_timeout', '100ms', true);
  return query
  select
    of_drop.ns[o.n], coalesce(e.status, case when o.replayed then 200 else 201 end), o.code, e.message, o.replayed,
    to_json(o.purchase)
  from (
    select v_drop_ids[q.n] as drop_id, array_agg(q.n order by q.n) as ns, array_agg(q.request order by q.n) as requests
    from (select unnest(p_requests) as request, generate_series(1, cardinality(p_requests)) as n) q
    group by v_drop_ids[q.n]
    order by v_drop_ids[q.n]
  ) of_drop
  cross join lateral inventory.purchase_on_drop(of_drop.drop_id, of_drop.requests) o
  left join api.errors() e on e.code = o.code
  order by of_drop.ns[o.n];
  perform set_config('lock_timeout', v_lock_timeout, true);
end
$$;

comment on function api.purchase_batch(api.purchase_request[]) is
'Purchase what each user holds, in the order given. The answer has one row a request: n is its place in p_requests, status the
HTTP status, code and message say why it is refused. With several drops no lock is waited for longer than 100 ms (55P03).
select * from api.purchase_batch(array[row(''<drop>'', ''<user>'', ''<key or null>'', ''<reservation or null>'')]::api.purchase_request[]);';
