-- inventory.queue_webhook_delivery: let the lane of a delivery be due now.
--
-- Locks: the caller holds the endpoint; then the lane. A lane that a process has leased stays with it until the lease ends.
-- Errors: none.

create or replace function inventory.queue_webhook_delivery(p_endpoint_id uuid, p_lane uuid)
returns void
language sql
as $$
  insert into inventory.webhook_lanes as l (endpoint_id, lane)
  values (p_endpoint_id, p_lane)
  on conflict (endpoint_id, lane) do update
  set next_attempt_at = case when l.lease is null then now() else l.next_attempt_at end
$$;

comment on function inventory.queue_webhook_delivery(uuid, uuid) is 'Let the lane of a webhook delivery be due now.';
