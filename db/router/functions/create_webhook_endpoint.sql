-- api.create_webhook_endpoint: on every node, because each tells of its own drops. The first node makes it, the others get a copy.
--
-- If a node is away nothing is done. A request that was interrupted can be repeated with its key.

create or replace function api.create_webhook_endpoint(
  p_url text, p_event_types text[], p_made_by uuid default null, p_idempotency_key text default null
)
returns table (replayed boolean, endpoint api.webhook_endpoint_row, secret text)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_rows json;
begin
  perform router.refuse_block();
  perform router.require_all();
  v_rows := router.ask((router.all_nodes())[1], 'create_webhook_endpoint', jsonb_build_object(
    'p_url', p_url, 'p_event_types', p_event_types, 'p_made_by', p_made_by, 'p_idempotency_key', p_idempotency_key));
  perform router.copy_webhook_endpoints(router.all_nodes());
  return query
  select r.* from json_to_recordset(v_rows) as r (replayed boolean, endpoint api.webhook_endpoint_row, secret text);
end
$$;

-- Every change is made on the first node and then copied, so the first node decides which of two changes is the later one. A copy that
-- was under way while its endpoint was deleted may have put it back. So each call that copies looks afterwards for endpoints that
-- the first node has no more. It is asked last, because it has an endpoint before the others have it.
create or replace function router.copy_webhook_endpoints(p_nodes integer[])
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_first integer := (router.all_nodes())[1];
  v_copies json := router.ask_as_service(v_first, 'webhook_endpoint_copies', '{}');
  v_node integer;
  v_here json;
begin
  foreach v_node in array array_remove(p_nodes, v_first) loop
    perform router.ask_as_service(v_node, 'copy_webhook_endpoint', jsonb_build_object('p_copy', c.value))
    from json_array_elements(v_copies) as c (value);
    v_here := router.ask_as_service(v_node, 'webhook_endpoint_copies', '{}');
    v_copies := router.ask_as_service(v_first, 'webhook_endpoint_copies', '{}');
    perform router.refuse_away(array[v_node])
    from json_array_elements(v_here) as h (value)
    cross join lateral router.try_call(
      v_node, 'lastpair_service', 'delete_webhook_endpoint', jsonb_build_object('p_endpoint_id', h.value ->> 'id')) called
    where not exists (select from json_array_elements(v_copies) as c (value) where c.value ->> 'id' = h.value ->> 'id')
      and called.is_away;
  end loop;
end
$$;

comment on function router.copy_webhook_endpoints(integer[]) is 'Let these nodes have the webhook endpoints of the first node, and no others.';

comment on function api.create_webhook_endpoint(text, text[], uuid, text) is
'Tell a URL about events of these types from now on. The answer has the secret that signs the messages; it is not shown again.';
