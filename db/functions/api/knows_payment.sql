-- api.knows_payment: whether a payment here has this id at its provider.
--
-- Purpose: a router finds the node for an event of a provider that does not name the payment.
--
-- Locks: none. Errors: none.

create or replace function api.knows_payment(p_provider text, p_provider_reference text)
returns boolean
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from inventory.payments y where y.provider = p_provider and y.provider_reference = p_provider_reference)
$$;

comment on function api.knows_payment(text, text) is 'For a router: whether a payment here has this id at its provider.';
