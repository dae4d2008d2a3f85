-- inventory.webhook_delivery_row: turn a row of webhook_deliveries into the row that the API shows.
--
-- Purpose: the next attempt is that of the lane, because a delivery waits for those before it.
--
-- Locks: none. Errors: none.

create or replace function inventory.webhook_delivery_row(p_delivery inventory.webhook_deliveries)
returns api.webhook_delivery_row
language sql stable
as $$
  select row(
    p_delivery.id, p_delivery.endpoint_id, m.message_id, m.drop_id, m.type, p_delivery.status, p_delivery.attempts,
    p_delivery.last_attempt_at, p_delivery.last_status, p_delivery.last_error,
    case when p_delivery.status = 'pending' then (
      select l.next_attempt_at
      from inventory.webhook_lanes l
      where l.endpoint_id = p_delivery.endpoint_id and l.lane = p_delivery.lane
    ) end,
    p_delivery.give_up_at, p_delivery.created_at
  )::api.webhook_delivery_row
  from inventory.webhook_messages m
  where m.id = p_delivery.message
$$;

comment on function inventory.webhook_delivery_row(inventory.webhook_deliveries) is
'Return a webhook delivery as the API shows it.';
