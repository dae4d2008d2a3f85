-- api.set_payment_provider: who takes the money for purchases from now on, and how long a payment may take at least.
--
-- Purpose: the service says so when it starts (PAYMENT_PROVIDER, PAYMENT_TTL_SECONDS), because the database decides what a
-- purchase becomes, also those of psql users. A payment that was begun keeps its provider and its end.
--
-- Locks: the row of the settings, if it changes. Errors: VALIDATION_ERROR.

create or replace function api.set_payment_provider(p_provider text, p_ttl_seconds integer)
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_constraint_name text;
begin
  update inventory.settings s
  set payment_provider = coalesce(p_provider, ''), payment_ttl_seconds = coalesce(p_ttl_seconds, 0)
  where (s.payment_provider, s.payment_ttl_seconds) is distinct from (p_provider, p_ttl_seconds);
exception when check_violation then
  get stacked diagnostics v_constraint_name = constraint_name;
  perform inventory.refuse_constraint(v_constraint_name);
end
$$;

comment on function api.set_payment_provider(text, integer) is
'Let none, stripe or webhook take the money for purchases from now on. A payment may take p_ttl_seconds, or as long as the hold
lasts.';
