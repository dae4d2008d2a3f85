-- api.delete_webhook_endpoint: on the first node, and then on the others. If a node is away nothing is done.
--
-- A request that was interrupted can be repeated: others lose an endpoint that the first node has no more.

create or replace function api.delete_webhook_endpoint(p_endpoint_id uuid)
returns setof api.webhook_endpoint_row
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v record;
begin
  perform router.refuse_block();
  perform router.require_all();
  select * into strict v
  from router.answer((router.all_nodes())[1], 'delete_webhook_endpoint', jsonb_build_object('p_endpoint_id', p_endpoint_id));
  perform router.copy_webhook_endpoints(router.all_nodes());
  return query
  select r.*
  from json_populate_recordset(null::api.webhook_endpoint_row, router.rows_or_refusal((router.all_nodes())[1], v)) r;
end
$$;

comment on function api.delete_webhook_endpoint(uuid) is 'Remove a webhook endpoint with its deliveries, and return it.';
