-- inventory.webhook_endpoint_row: turn a row of webhook_endpoints into the row that the API shows.
--
-- Locks: none. Errors: none.

create or replace function inventory.webhook_endpoint_row(p_endpoint inventory.webhook_endpoints)
returns api.webhook_endpoint_row
language sql stable
as $$
  select row(
    p_endpoint.id, p_endpoint.url, p_endpoint.event_types, p_endpoint.is_active, p_endpoint.disabled_at,
    p_endpoint.disabled_reason, p_endpoint.failing_since,
    case when p_endpoint.previous_secret_ends_at > now() then p_endpoint.previous_secret_ends_at end,
    p_endpoint.created_at, p_endpoint.updated_at
  )::api.webhook_endpoint_row
$$;

comment on function inventory.webhook_endpoint_row(inventory.webhook_endpoints) is
'Return a webhook endpoint as the API shows it, without its secret.';
