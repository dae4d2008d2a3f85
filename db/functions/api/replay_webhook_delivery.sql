-- api.replay_webhook_delivery: send a message to its webhook endpoint once more.
--
-- Purpose: for a delivery that was given up, or that the receiver has lost. It is tried for a day, as a new one, and goes before
-- the newer ones of its drop. The receiver knows it by its webhook-id. One that is pending is tried now.
--
-- Locks: the key, the endpoint, the lane, the delivery. Errors: WEBHOOK_DELIVERY_NOT_FOUND, WEBHOOK_ENDPOINT_INACTIVE,
-- IDEMPOTENCY_KEY_REUSED, FORBIDDEN (a seller names another user), AUTH_REQUIRED.

create or replace function api.replay_webhook_delivery(
  p_delivery_id uuid, p_replayed_by uuid default null, p_idempotency_key text default null
)
returns table (replayed boolean, delivery api.webhook_delivery_row)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_delivery inventory.webhook_deliveries;
  v_is_replay boolean := inventory.claim_idempotency_key(
    inventory.acting_user(p_replayed_by), p_idempotency_key, 'replay_webhook_delivery', to_jsonb(p_delivery_id), p_delivery_id
  ) is not null;
begin
  select * into v_delivery from inventory.webhook_deliveries d where d.id = p_delivery_id;
  if not found then
    perform inventory.refuse('WEBHOOK_DELIVERY_NOT_FOUND');
  end if;
  if not v_is_replay then
    perform inventory.lock_webhook_endpoint(v_delivery.endpoint_id, true);
    perform inventory.queue_webhook_delivery(v_delivery.endpoint_id, v_delivery.lane);
    update inventory.webhook_deliveries d
    set status = 'pending', attempts = 0, give_up_at = now() + interval '1 day'
    where d.id = p_delivery_id
    returning * into v_delivery;
    if not found then
      perform inventory.refuse('WEBHOOK_DELIVERY_NOT_FOUND');
    end if;
  end if;
  return query select v_is_replay, inventory.webhook_delivery_row(v_delivery);
end
$$;

comment on function api.replay_webhook_delivery(uuid, uuid, text) is 'Send a message to its webhook endpoint once more.';
