-- api.webhook_endpoint_copies: the webhook endpoints with their secrets, each as one JSON object, the oldest first.
--
-- Purpose: each node of a router tells of its own drops, so all nodes have the same endpoints. api.copy_webhook_endpoint takes these.
--
-- Locks: none. Errors: none.

create or replace function api.webhook_endpoint_copies()
returns setof json
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select to_json(e) from inventory.webhook_endpoints e order by e.created_at, e.id
$$;

comment on function api.webhook_endpoint_copies() is
'For a router: the webhook endpoints with their secrets, for api.copy_webhook_endpoint of other nodes.';
