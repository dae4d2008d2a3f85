-- inventory.lock_webhook_endpoint: lock a webhook endpoint, and return it.
--
-- Locks: the endpoint. Lanes, deliveries and the settings are locked after it. Errors: WEBHOOK_ENDPOINT_NOT_FOUND,
-- WEBHOOK_ENDPOINT_INACTIVE (p_must_be_active).

create or replace function inventory.lock_webhook_endpoint(p_endpoint_id uuid, p_must_be_active boolean default false)
returns inventory.webhook_endpoints
language plpgsql
as $$
declare
  v_endpoint inventory.webhook_endpoints;
begin
  select * into v_endpoint from inventory.webhook_endpoints e where e.id = p_endpoint_id for no key update;
  if not found then
    perform inventory.refuse('WEBHOOK_ENDPOINT_NOT_FOUND');
  end if;
  if p_must_be_active and not v_endpoint.is_active then
    perform inventory.refuse('WEBHOOK_ENDPOINT_INACTIVE');
  end if;
  return v_endpoint;
end
$$;

comment on function inventory.lock_webhook_endpoint(uuid, boolean) is 'Lock a webhook endpoint and return it, or refuse.';
