-- api.retry_provider_call: try a call to a payment provider again that was given up, or that waits after an error, and return it.
--
-- Locks: the call. Errors: PROVIDER_CALL_NOT_FOUND, INVALID_STATUS_CHANGE (it is done).

create or replace function api.retry_provider_call(p_id uuid)
returns setof api.provider_call_row
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_call inventory.provider_calls;
begin
  select * into v_call from inventory.provider_calls c where c.id = p_id for no key update;
  if not found then
    perform inventory.refuse('PROVIDER_CALL_NOT_FOUND');
  elsif v_call.done_at is not null then
    perform inventory.refuse('INVALID_STATUS_CHANGE', 'This call is done.');
  end if;
  update inventory.provider_calls c
  set attempts = case when c.gave_up_at is null then c.attempts else 0 end, gave_up_at = null, next_attempt_at = now()
  where c.id = p_id
  returning * into v_call;
  return query select (inventory.provider_call_row(v_call)).*;
end
$$;

comment on function api.retry_provider_call(uuid) is
'Try a call to a payment provider again that was given up, or that waits after an error, and return it.';
