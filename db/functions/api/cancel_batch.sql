-- api.cancel_batch: give back the units of many reservations on any drops: one outcome per request, nothing raised for a refusal.
--
-- Purpose: calls inventory.cancel_on_drop for many requests. A request names only its reservation, so the
-- drops are looked up here. Requests on several drops share one commit.
--
-- Locks: drop by drop in the order of their ids, as inventory.cancel_on_drop takes them. Errors: with several drops
-- lock_not_available (55P03) after 100 ms at a lock. Then nothing is done for any request, and the caller cancels one by one.
-- Codes of refusals: see inventory.cancel_on_drop.

create or replace function api.cancel_batch(p_requests api.cancel_request[])
returns setof api.outcome
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_drop_ids uuid[] := array(
    select r.drop_id
    from unnest(p_requests) with ordinality q
    left join lateral (
      select r.drop_id from inventory.reservations r where r.id = q.reservation_id limit 1
    ) r on true
    order by q.ordinality
  );
  v_lock_timeout text := current_setting('lock_timeout');
begin
  if v_drop_ids[1] = all (v_drop_ids) then -- the common case, which needs no grouping
    return query
    select o.n, coalesce(e.status, 200), o.code, e.message, false, to_json(o.reservation)
    from inventory.cancel_on_drop(v_drop_ids[1], p_requests) o
    left join inventory.errors() e on e.code = o.code
    order by o.n;
    return;
  end if;

  -- The locks of the first drops are held while the next one is waited for, so that must not take long.
  perform set_config('lock_timeout', '100ms', true);
  return query
  select of_drop.ns[o.n], coalesce(e.status, 200), o.code, e.message, false, to_json(o.reservation)
  from (
    select v_drop_ids[q.n] as drop_id, array_agg(q.n order by q.n) as ns, array_agg(q.request order by q.n) as requests
    from (select unnest(p_requests) as request, generate_series(1, cardinality(p_requests)) as n) q
    group by v_drop_ids[q.n]
    order by v_drop_ids[q.n]
  ) of_drop
  cross join lateral inventory.cancel_on_drop(of_drop.drop_id, of_drop.requests) o
  left join inventory.errors() e on e.code = o.code
  order by of_drop.ns[o.n];
  perform set_config('lock_timeout', v_lock_timeout, true);
end
$$;

comment on function api.cancel_batch(api.cancel_request[]) is
'Cancel ACTIVE reservations and give their units back. The answer has one row a request: n is its place in p_requests, status the
HTTP status, code and message say why it is refused. With several drops no lock is waited for longer than 100 ms (55P03).
select * from api.cancel_batch(array[row(''<reservation>'', ''<user>'')]::api.cancel_request[]);';
