-- api.send_test_webhook: send a message of the type webhook.test to a webhook endpoint, whatever types it wants.
--
-- Locks: the key, the endpoint, the lane. Errors: WEBHOOK_ENDPOINT_NOT_FOUND, WEBHOOK_ENDPOINT_INACTIVE, IDEMPOTENCY_KEY_REUSED,
-- FORBIDDEN (a seller names another user), AUTH_REQUIRED.

create or replace function api.send_test_webhook(
  p_endpoint_id uuid, p_sent_by uuid default null, p_idempotency_key text default null
)
returns table (replayed boolean, delivery api.webhook_delivery_row)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_delivery inventory.webhook_deliveries;
  v_id uuid := inventory.uuid_v7();
  v_message bigint;
  v_earlier uuid := inventory.claim_idempotency_key(
    inventory.acting_user(p_sent_by), p_idempotency_key, 'send_test_webhook', to_jsonb(p_endpoint_id), v_id);
begin
  if v_earlier is not null then
    select * into v_delivery from inventory.webhook_deliveries d where d.id = v_earlier;
    if not found then
      perform inventory.refuse('WEBHOOK_ENDPOINT_NOT_FOUND');
    end if;
    return query select true, inventory.webhook_delivery_row(v_delivery);
    return;
  end if;
  perform inventory.lock_webhook_endpoint(p_endpoint_id, true);
  perform inventory.queue_webhook_delivery(p_endpoint_id, p_endpoint_id);
  insert into inventory.webhook_messages (drop_id, type, data)
  values (null, 'webhook.test', json_build_object('endpoint_id', p_endpoint_id))
  returning id into v_message;
  insert into inventory.webhook_deliveries (endpoint_id, lane, message, id)
  values (p_endpoint_id, p_endpoint_id, v_message, v_id)
  returning * into v_delivery;
  return query select false, inventory.webhook_delivery_row(v_delivery);
end
$$;

comment on function api.send_test_webhook(uuid, uuid, text) is 'Send a message of the type webhook.test to a webhook endpoint.';
