-- api.fail_provider_call: a call to a payment provider failed: try it again later, or give it up.
--
-- Purpose: the next attempt is 5 seconds later, then 10, 20 and so on, at most an hour. The call is given up after 20 attempts,
-- or at once if p_is_final, because the provider would refuse it again. The seller sees it and may retry it
-- (api.retry_provider_call). A payment that cannot be created has failed, so the buyer is told.
--
-- Locks, in this order: the payment, the call. Errors: PROVIDER_CALL_NOT_FOUND.

create or replace function api.fail_provider_call(p_id uuid, p_error text, p_is_final boolean default false)
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_call inventory.provider_calls;
  v_most_attempts constant integer := 20;
begin
  select * into v_call from inventory.provider_calls c where c.id = p_id;
  if not found then
    perform inventory.refuse('PROVIDER_CALL_NOT_FOUND');
  end if;
  perform from inventory.payments y where y.id = v_call.payment_id for no key update;
  update inventory.provider_calls c
  set
    last_error = left(p_error, 1000),
    next_attempt_at = now() + least(interval '5 seconds' * 2 ^ least(greatest(c.attempts, 1) - 1, 20), interval '1 hour'),
    gave_up_at = case when p_is_final or c.attempts >= v_most_attempts then now() end
  where c.id = p_id and c.done_at is null
  returning * into v_call;
  if v_call.gave_up_at is not null and v_call.action = 'create' then
    update inventory.payments y set status = 'failed', updated_at = now() where y.id = v_call.payment_id and y.status = 'pending';
  end if;
end
$$;

comment on function api.fail_provider_call(uuid, text, boolean) is
'Note that a call to a payment provider failed, and why. It is tried again later, or given up if p_is_final or after 20
attempts.';
