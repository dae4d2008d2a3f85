-- api.create_webhook_endpoint: tell a URL what happens from now on.
--
-- Purpose: the secret signs the messages. It is returned here, and to a request that is repeated with the same p_idempotency_key,
-- and never again. event_types are those of docs/webhooks.md.
--
-- Locks: the key, the settings. Errors: VALIDATION_ERROR (url, event_types, the key), TOO_MANY_WEBHOOK_ENDPOINTS, FORBIDDEN (a
-- seller names another user), AUTH_REQUIRED, IDEMPOTENCY_KEY_REUSED.

create or replace function api.create_webhook_endpoint(
  p_url text, p_event_types text[], p_made_by uuid default null, p_idempotency_key text default null
)
returns table (replayed boolean, endpoint api.webhook_endpoint_row, secret text)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_endpoint inventory.webhook_endpoints;
  v_id uuid := inventory.uuid_v7();
  v_earlier uuid;
  v_constraint text;
begin
  v_earlier := inventory.claim_idempotency_key(
    inventory.acting_user(p_made_by), p_idempotency_key, 'create_webhook_endpoint',
    jsonb_build_array(p_url, to_jsonb(p_event_types)), v_id);
  if v_earlier is not null then
    v_endpoint := inventory.lock_webhook_endpoint(v_earlier);
    return query select true, inventory.webhook_endpoint_row(v_endpoint), v_endpoint.secret;
    return;
  end if;
  perform from inventory.settings s for no key update; -- so that two requests together make no more endpoints than there may be
  if (select count(*) >= 20 from inventory.webhook_endpoints) then
    perform inventory.refuse('TOO_MANY_WEBHOOK_ENDPOINTS');
  end if;
  begin
    insert into inventory.webhook_endpoints (id, url, event_types, secret)
    values (
      v_id, coalesce(p_url, ''), array(select distinct t from unnest(p_event_types) t order by t), inventory.new_webhook_secret())
    returning * into v_endpoint;
  exception when check_violation then
    get stacked diagnostics v_constraint = constraint_name;
    perform inventory.refuse_constraint(v_constraint);
  end;
  return query select false, inventory.webhook_endpoint_row(v_endpoint), v_endpoint.secret;
end
$$;

comment on function api.create_webhook_endpoint(text, text[], uuid, text) is
'Tell a URL about events of these types from now on. The answer has the secret that signs the messages; it is not shown again.';
