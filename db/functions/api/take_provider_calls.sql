-- api.take_provider_calls: lease calls to payment providers to a worker, at most p_limit, the ones that are due longest first.
--
-- Purpose: the worker makes the call outside of a transaction and then says how it went (api.finish_provider_call,
-- api.fail_provider_call). If it dies, the call is leased again p_lease_seconds after it was taken; the provider knows the id of
-- the call and does not act twice. Of the calls of a payment only the oldest one is leased, so that it is created before it is
-- cancelled or refunded. With p_payment_id only the calls of this payment are looked at.
--
-- Locks: the calls, with skip locked, so that workers do not wait for each other. Errors: VALIDATION_ERROR.
-- Plans: see db/README.md, 'Plans'. provider_calls_next_idx has the open calls in the order of next_attempt_at. coalesce hides it
-- from the second query, for which it would cost the same while the table is small.

create or replace function api.take_provider_calls(p_limit integer, p_lease_seconds integer, p_payment_id uuid default null)
returns setof api.provider_call
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_sort = off
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_ids uuid[];
begin
  if (p_limit between 1 and 1000 and p_lease_seconds between 1 and 86400) is not true then
    perform inventory.refuse('VALIDATION_ERROR', 'p_limit: must be between 1 and 1000; p_lease_seconds: between 1 and 86400');
  end if;
  if p_payment_id is null then
    v_ids := array(
      select c.id
      from inventory.provider_calls c
      where c.done_at is null and c.gave_up_at is null and c.next_attempt_at <= now()
        and c.id = (
          select oldest.id
          from inventory.provider_calls oldest
          where oldest.payment_id = c.payment_id and oldest.done_at is null and oldest.gave_up_at is null
          order by oldest.id
          limit 1
        )
      order by c.next_attempt_at
      limit p_limit
      for no key update skip locked
    );
  else
    v_ids := array(
      select c.id
      from inventory.provider_calls c
      where coalesce(c.done_at, c.gave_up_at) is null and c.next_attempt_at <= now()
        and c.id = (
          select oldest.id
          from inventory.provider_calls oldest
          where oldest.payment_id = p_payment_id and oldest.done_at is null and oldest.gave_up_at is null
          order by oldest.id
          limit 1
        )
      for no key update skip locked
    );
  end if;
  return query
  with taken as (
    update inventory.provider_calls c
    set attempts = c.attempts + 1, next_attempt_at = now() + make_interval(secs => p_lease_seconds)
    where c.id = any (v_ids)
    returning c.id, c.payment_id, c.drop_id, c.action, c.amount, c.attempts
  )
  select t.id, t.payment_id, t.drop_id, t.action, t.amount, t.attempts, (
    select inventory.payment_row(y) from inventory.payments y where y.id = t.payment_id limit 1)
  from taken t;
end
$$;

comment on function api.take_provider_calls(integer, integer, uuid) is
'Lease at most p_limit calls to payment providers that are due for p_lease_seconds, the longest due first.';
