-- inventory.disable_webhook_endpoint: send nothing more to an endpoint, because it is gone or has failed for days.
--
-- Purpose: deliveries that wait are given up, so that the seller sees them and can replay them. updated_at stays, because it says which
-- of two changes by the seller is the later one (api.copy_webhook_endpoint), and each node of a router finds out by itself that an
-- endpoint is gone.
--
-- Locks: the caller holds the endpoint; then its lanes, its deliveries, the settings. Errors: none.

create or replace function inventory.disable_webhook_endpoint(p_endpoint_id uuid, p_reason text)
returns void
language plpgsql
as $$
begin
  delete from inventory.webhook_lanes l where l.endpoint_id = p_endpoint_id;
  update inventory.webhook_deliveries d
  set status = 'given_up', last_error = coalesce(d.last_error, 'the endpoint was disabled before the first attempt')
  where d.endpoint_id = p_endpoint_id and d.status = 'pending';
  update inventory.webhook_endpoints e
  set
    is_active = false, disabled_reason = p_reason,
    disabled_at = case when p_reason is not null then now() end
  where e.id = p_endpoint_id;
end
$$;

comment on function inventory.disable_webhook_endpoint(uuid, text) is
'Send nothing more to a webhook endpoint, and give up what waits. Without a reason the seller has turned it off.';
