-- api.purchase_batch: sell holds for many requests on any drops: one outcome per request, nothing raised for a refusal.
--
-- Purpose: calls inventory.purchase_on_drops for many requests. Requests on several drops share one commit.
--
-- Locks: as inventory.purchase_on_drops takes them. Errors: VALIDATION_ERROR (a key); with several drops lock_not_available (55P03)
-- after 100 ms at a lock. Then nothing is done for any request, and the caller sends the requests of each drop in a call of their
-- own. Codes of refusals: see inventory.purchase_on_drops.

create or replace function api.purchase_batch(p_requests api.purchase_request[])
returns setof api.outcome
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  v_first_drop_id uuid := p_requests[1].drop_id;
  v_lock_timeout text := current_setting('lock_timeout');
begin
  if cardinality(p_requests) > 1
    and exists (select from unnest(p_requests) q where q.drop_id is distinct from v_first_drop_id) then
    -- What is locked already is held while this call waits for the next lock, so that must not take long.
    perform set_config('lock_timeout', '100ms', true);
  end if;
  return query
  select
    o.n, coalesce(e.status, case when o.replayed then 200 else 201 end), o.code, e.message, o.replayed, to_json(o.purchase)
  from inventory.purchase_on_drops(p_requests) o
  left join inventory.errors() e on e.code = o.code
  order by o.n;
  if current_setting('lock_timeout') <> v_lock_timeout then
    perform set_config('lock_timeout', v_lock_timeout, true);
  end if;
end
$$;

comment on function api.purchase_batch(api.purchase_request[]) is
'Purchase what each user holds, in the order given. The answer has one row a request: n is its place in p_requests, status the
HTTP status, code and message say why it is refused. With several drops no lock is waited for longer than 100 ms (55P03).
select * from api.purchase_batch(array[row(''<drop>'', ''<user>'', ''<key or null>'', ''<reservation or null>'')]::api.purchase_request[]);';
