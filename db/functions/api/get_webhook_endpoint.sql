-- api.get_webhook_endpoint: one webhook endpoint, without its secret.
--
-- Locks: none. Errors: WEBHOOK_ENDPOINT_NOT_FOUND.

create or replace function api.get_webhook_endpoint(p_endpoint_id uuid)
returns setof api.webhook_endpoint_row
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select r.*
  from inventory.webhook_endpoints e
  cross join lateral inventory.webhook_endpoint_row(e) r
  where e.id = p_endpoint_id;
  if not found then
    perform inventory.refuse('WEBHOOK_ENDPOINT_NOT_FOUND');
  end if;
end
$$;

comment on function api.get_webhook_endpoint(uuid) is 'Return a webhook endpoint, without its secret.';
