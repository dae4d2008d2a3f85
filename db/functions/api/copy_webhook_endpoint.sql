-- api.copy_webhook_endpoint: have a webhook endpoint as another node has it: the same id, URL, event types and secrets.
--
-- Purpose: see api.webhook_endpoint_copies. Of two states of an endpoint the one with the later updated_at counts, so a copy may come
-- twice and late. Since when deliveries fail is each node's own. Whether there are too many endpoints was decided where this one was
-- made.
--
-- Locks: the endpoint, its lanes and deliveries, the settings. Errors: none.

create or replace function api.copy_webhook_endpoint(p_copy json)
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_copy inventory.webhook_endpoints := json_populate_record(null::inventory.webhook_endpoints, p_copy);
  v_own inventory.webhook_endpoints;
begin
  v_copy.failing_since := null;
  begin
    insert into inventory.webhook_endpoints select (v_copy).*;
    return;
  exception when unique_violation then
    null; -- It is here already. With `on conflict` the trigger would now have locked the settings, and others lock the endpoint first.
  end;
  select * into v_own from inventory.webhook_endpoints e where e.id = v_copy.id for no key update;
  if not found or v_own.updated_at >= v_copy.updated_at then -- it was deleted meanwhile, or this copy is late
    return;
  end if;
  if v_own.is_active and not v_copy.is_active then
    perform inventory.disable_webhook_endpoint(v_copy.id, v_copy.disabled_reason);
  end if;
  update inventory.webhook_endpoints e
  set
    url = v_copy.url, event_types = v_copy.event_types, is_active = v_copy.is_active, disabled_at = v_copy.disabled_at,
    disabled_reason = v_copy.disabled_reason, secret = v_copy.secret, previous_secret = v_copy.previous_secret,
    previous_secret_ends_at = v_copy.previous_secret_ends_at, updated_at = v_copy.updated_at,
    failing_since = case when v_own.is_active = v_copy.is_active then e.failing_since end
  where e.id = v_copy.id;
end
$$;

comment on function api.copy_webhook_endpoint(json) is
'For a router: have a webhook endpoint as another node has it, from api.webhook_endpoint_copies. The last change counts.';
