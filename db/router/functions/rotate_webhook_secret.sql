-- api.rotate_webhook_secret: on the first node, and then the others get a copy. If a node is away nothing is done.

create or replace function api.rotate_webhook_secret(
  p_endpoint_id uuid, p_rotated_by uuid default null, p_idempotency_key text default null
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
  v_rows := router.ask((router.all_nodes())[1], 'rotate_webhook_secret', jsonb_build_object(
    'p_endpoint_id', p_endpoint_id, 'p_rotated_by', p_rotated_by, 'p_idempotency_key', p_idempotency_key));
  perform router.copy_webhook_endpoints(router.all_nodes());
  return query
  select r.* from json_to_recordset(v_rows) as r (replayed boolean, endpoint api.webhook_endpoint_row, secret text);
end
$$;

comment on function api.rotate_webhook_secret(uuid, uuid, text) is
'Give a webhook endpoint a new secret and return it. For a day the old one signs messages as well.';
