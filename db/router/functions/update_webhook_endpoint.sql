-- api.update_webhook_endpoint: on the first node, and then the others get a copy. If a node is away nothing is done.

create or replace function api.update_webhook_endpoint(p_endpoint_id uuid, p_changes jsonb)
returns setof api.webhook_endpoint_row
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_rows json;
begin
  perform router.refuse_block();
  perform router.require_all();
  v_rows := router.ask((router.all_nodes())[1], 'update_webhook_endpoint', jsonb_build_object(
    'p_endpoint_id', p_endpoint_id, 'p_changes', p_changes));
  perform router.copy_webhook_endpoints(router.all_nodes());
  return query select r.* from json_populate_recordset(null::api.webhook_endpoint_row, v_rows) r;
end
$$;

comment on function api.update_webhook_endpoint(uuid, jsonb) is
'Change url, event_types or active of a webhook endpoint, and return it.';
