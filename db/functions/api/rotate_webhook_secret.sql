-- api.rotate_webhook_secret: give a webhook endpoint a new secret.
--
-- Purpose: for a day messages are signed with the old secret as well, so that the receiver can be changed without losing one. If
-- the secret is rotated again within that day, the one before the old one ends at once. A request that is repeated with the same
-- p_idempotency_key returns the secret as it is now.
--
-- Locks: the key, the endpoint. Errors: WEBHOOK_ENDPOINT_NOT_FOUND, IDEMPOTENCY_KEY_REUSED, FORBIDDEN (a seller names another
-- user), AUTH_REQUIRED.

create or replace function api.rotate_webhook_secret(
  p_endpoint_id uuid, p_rotated_by uuid default null, p_idempotency_key text default null
)
returns table (replayed boolean, endpoint api.webhook_endpoint_row, secret text)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_endpoint inventory.webhook_endpoints;
  v_is_replay boolean := inventory.claim_idempotency_key(
    inventory.acting_user(p_rotated_by), p_idempotency_key, 'rotate_webhook_secret', to_jsonb(p_endpoint_id), p_endpoint_id
  ) is not null;
begin
  v_endpoint := inventory.lock_webhook_endpoint(p_endpoint_id);
  if not v_is_replay then
    update inventory.webhook_endpoints e
    set
      secret = inventory.new_webhook_secret(), previous_secret = e.secret, previous_secret_ends_at = now() + interval '1 day',
      updated_at = greatest(now(), e.updated_at + interval '1 microsecond')
    where e.id = p_endpoint_id
    returning * into v_endpoint;
  end if;
  return query select v_is_replay, inventory.webhook_endpoint_row(v_endpoint), v_endpoint.secret;
end
$$;

comment on function api.rotate_webhook_secret(uuid, uuid, text) is
'Give a webhook endpoint a new secret and return it. For a day the old one signs messages as well.';
