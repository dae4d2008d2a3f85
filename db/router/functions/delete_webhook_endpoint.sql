-- api.delete_webhook_endpoint: on every node, the first one last, so that a request that was interrupted can be repeated. If a node is
-- away nothing is done.

create or replace function api.delete_webhook_endpoint(p_endpoint_id uuid)
returns setof api.webhook_endpoint_row
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_nodes integer[] := router.all_nodes();
  v_arguments constant jsonb := jsonb_build_object('p_endpoint_id', p_endpoint_id);
begin
  perform router.refuse_block();
  perform router.require_all();
  perform router.answer(n.node, 'delete_webhook_endpoint', v_arguments) from unnest(v_nodes[2:]) as n (node);
  return query
  select r.* from json_populate_recordset(null::api.webhook_endpoint_row, router.ask(v_nodes[1], 'delete_webhook_endpoint', v_arguments)) r;
end
$$;

comment on function api.delete_webhook_endpoint(uuid) is 'Remove a webhook endpoint with its deliveries, and return it.';
