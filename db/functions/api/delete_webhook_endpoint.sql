-- api.delete_webhook_endpoint: remove a webhook endpoint, with its deliveries.
--
-- Locks: the endpoint, its lanes and deliveries, the settings. Errors: WEBHOOK_ENDPOINT_NOT_FOUND.

create or replace function api.delete_webhook_endpoint(p_endpoint_id uuid)
returns setof api.webhook_endpoint_row
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_endpoint inventory.webhook_endpoints;
begin
  delete from inventory.webhook_endpoints e where e.id = p_endpoint_id returning * into v_endpoint;
  if not found then
    perform inventory.refuse('WEBHOOK_ENDPOINT_NOT_FOUND');
  end if;
  return query select r.* from inventory.webhook_endpoint_row(v_endpoint) r;
end
$$;

comment on function api.delete_webhook_endpoint(uuid) is 'Remove a webhook endpoint with its deliveries, and return it.';
