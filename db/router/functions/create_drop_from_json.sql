-- api.create_drop_from_json: on the node of the drop that `near` names, or else where api.create_drop puts it.

create or replace function api.create_drop_from_json(p_drop jsonb, p_created_by uuid, p_idempotency_key text default null)
returns setof api.outcome
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_near text := case when jsonb_typeof(p_drop) = 'object' then p_drop ->> 'near' end;
begin
  perform router.refuse_block();
  return query
  select r.*
  from json_populate_recordset(
    null::api.outcome,
    router.ask(
      case
        when v_near ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then router.node_of(v_near::uuid)
        else router.node_for_drop(p_created_by, p_idempotency_key)
      end,
      'create_drop_from_json',
      jsonb_build_object('p_drop', p_drop, 'p_created_by', p_created_by, 'p_idempotency_key', p_idempotency_key))
  ) r;
end
$$;

comment on function api.create_drop_from_json(jsonb, uuid, text) is
'Put a drop up for sale from one JSON object with the parameters of api.create_drop, terms included. The outcome has status 201, or
200 if the Idempotency-Key came before.';
