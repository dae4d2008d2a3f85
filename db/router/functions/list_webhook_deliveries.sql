-- api.list_webhook_deliveries: those of all nodes, the newest first, or of the node of p_drop_id.
--
-- Deliveries that a node made at the same moment keep the order of that node.

create or replace function api.list_webhook_deliveries(
  p_endpoint_id uuid,
  p_status text default null,
  p_type text default null,
  p_drop_id uuid default null,
  p_limit integer default 50,
  p_after uuid default null,
  p_after_at timestamptz default null
)
returns setof api.webhook_delivery_row
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_arguments constant jsonb := jsonb_build_object(
    'p_endpoint_id', p_endpoint_id, 'p_status', p_status, 'p_type', p_type, 'p_drop_id', p_drop_id, 'p_limit', p_limit, 'p_after', p_after,
    'p_after_at', p_after_at);
begin
  return query
  select (json_populate_record(null::api.webhook_delivery_row, e.value)).*
  from json_array_elements(
    case
      when p_drop_id is not null then router.ask(router.node_of(p_drop_id), 'list_webhook_deliveries', v_arguments)
      else router.page('list_webhook_deliveries', v_arguments)
    end
  ) with ordinality as e (value, n)
  order by (e.value ->> 'createdAt')::timestamptz desc, e.n
  limit greatest(p_limit, 1); -- a limit that is wrong is the nodes' to refuse
end
$$;

comment on function api.list_webhook_deliveries(uuid, text, text, uuid, integer, uuid, timestamptz) is
'List the deliveries of a webhook endpoint, the newest first: p_limit of them, after the one whose id is p_after; only those with
p_status, of p_type or of p_drop_id, if given. p_after_at is the time of the one whose id is p_after.';
