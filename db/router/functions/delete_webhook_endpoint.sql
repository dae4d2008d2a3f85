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
  v_node integer;
  v record;
begin
  perform router.refuse_block();
  perform router.require_all();
  foreach v_node in array v_nodes[2:] loop
    select * into strict v from router.answer(v_node, 'delete_webhook_endpoint', v_arguments);
    if v.is_away then -- since it was asked above
      perform router.refuse_away(array[v_node]);
    end if;
  end loop;
  return query
  select r.* from json_populate_recordset(null::api.webhook_endpoint_row, router.ask(v_nodes[1], 'delete_webhook_endpoint', v_arguments)) r;
end
$$;

comment on function api.delete_webhook_endpoint(uuid) is 'Remove a webhook endpoint with its deliveries, and return it.';
