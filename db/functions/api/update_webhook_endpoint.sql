-- api.update_webhook_endpoint: change the URL or the event types of a webhook endpoint, or turn it off and on again.
--
-- Purpose: p_changes has some of url, event_types and active. An endpoint that is turned off misses what happens meanwhile, and
-- its deliveries that wait are given up. One that is turned on again is not failing any more. A later change always has a later
-- updated_at, by which other nodes know it.
--
-- Locks: the endpoint, its lanes and deliveries, the settings. Errors: WEBHOOK_ENDPOINT_NOT_FOUND, VALIDATION_ERROR.

create or replace function api.update_webhook_endpoint(p_endpoint_id uuid, p_changes jsonb)
returns setof api.webhook_endpoint_row
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_endpoint inventory.webhook_endpoints := inventory.lock_webhook_endpoint(p_endpoint_id);
  v_unknown text;
  v_types text[];
  v_constraint text;
begin
  if jsonb_typeof(p_changes) is distinct from 'object' then
    perform inventory.refuse('VALIDATION_ERROR', 'changes: must be an object with the fields to change');
  end if;
  select min(k) into v_unknown from jsonb_object_keys(p_changes) k where k not in ('url', 'event_types', 'active');
  if v_unknown is not null then
    perform inventory.refuse('VALIDATION_ERROR', format('%s: is not a field here', v_unknown));
  end if;
  if p_changes ? 'active' and jsonb_typeof(p_changes -> 'active') <> 'boolean' then
    perform inventory.refuse('VALIDATION_ERROR', 'active: must be true or false');
  end if;
  if p_changes ? 'event_types' then
    if jsonb_typeof(p_changes -> 'event_types') <> 'array' then
      perform inventory.refuse_constraint('webhook_endpoints_event_types_check');
    end if;
    v_types := array(select distinct t from jsonb_array_elements_text(p_changes -> 'event_types') t order by t);
  end if;
  begin
    update inventory.webhook_endpoints e
    set
      url = case when p_changes ? 'url' then coalesce(p_changes ->> 'url', '') else e.url end,
      event_types = coalesce(v_types, e.event_types),
      updated_at = greatest(now(), e.updated_at + interval '1 microsecond')
    where e.id = p_endpoint_id;
  exception when check_violation then
    get stacked diagnostics v_constraint = constraint_name;
    perform inventory.refuse_constraint(v_constraint);
  end;
  if (p_changes -> 'active')::boolean and not v_endpoint.is_active then
    update inventory.webhook_endpoints e
    set is_active = true, disabled_at = null, disabled_reason = null, failing_since = null
    where e.id = p_endpoint_id;
  elsif not (p_changes -> 'active')::boolean and v_endpoint.is_active then
    perform inventory.disable_webhook_endpoint(p_endpoint_id, null);
  end if;
  return query
  select r.*
  from inventory.webhook_endpoints e
  cross join lateral inventory.webhook_endpoint_row(e) r
  where e.id = p_endpoint_id;
end
$$;

comment on function api.update_webhook_endpoint(uuid, jsonb) is
'Change url, event_types or active of a webhook endpoint, and return it.';
