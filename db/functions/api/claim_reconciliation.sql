-- api.claim_reconciliation: whether the caller is to compare payments with their providers now.
--
-- Purpose: every process of the service asks. Only one is told so in p_interval_seconds, because each comparison asks the provider for
-- many payments.
--
-- Locks: the row of the settings, if the time has come. Errors: VALIDATION_ERROR (p_interval_seconds).

create or replace function api.claim_reconciliation(p_interval_seconds integer)
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_interval_seconds is null or p_interval_seconds < 1 then
    perform inventory.refuse('VALIDATION_ERROR', 'p_interval_seconds: must be 1 or more');
  end if;
  update inventory.settings s
  set reconciled_at = now()
  where s.reconciled_at is null or s.reconciled_at <= now() - make_interval(secs => p_interval_seconds);
  return found;
end
$$;

comment on function api.claim_reconciliation(integer) is
'Whether the caller is to compare payments with their providers now: true for one caller in p_interval_seconds.';
