-- api.create_drop_from_json: put a drop up for sale from one JSON object, as HTTP clients send it.
--
-- Purpose: calls api.create_drop with the fields of the object, and says whether the Idempotency-Key came before. Status: 201, or
-- 200 of a replay. Locks and errors: see there; a refusal is raised.
--
-- `near` is the id of another drop. A router makes the new drop on the node of that one, so that one basket can have both. Here it
-- must be a drop that exists (DROP_NOT_FOUND), and is not stored.

create or replace function api.create_drop_from_json(p_drop jsonb, p_created_by uuid, p_idempotency_key text default null)
returns setof api.outcome
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_fields jsonb;
  v_field text;
  v_value jsonb;
  v_drop api.drop_row;
  v_replayed boolean;
begin
  perform inventory.require_self(p_created_by);
  if jsonb_typeof(p_drop) is distinct from 'object' then
    perform inventory.refuse('VALIDATION_ERROR', 'body: must be an object');
  end if;
  v_fields := jsonb_strip_nulls(p_drop - array['variants', 'near']);
  for v_field, v_value in select * from jsonb_each(v_fields) loop
    perform inventory.check_field_of_drop(v_field, v_value);
  end loop;
  if p_drop -> 'near' <> 'null' then
    if not coalesce(p_drop ->> 'near' ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$', false) then
      perform inventory.refuse('VALIDATION_ERROR', 'near: must be the id of a drop');
    end if;
    perform inventory.require_drop((p_drop ->> 'near')::uuid);
  end if;
  select c.* into v_drop
  from api.create_drop(
    v_fields ->> 'name',
    (v_fields ->> 'price')::numeric,
    (v_fields ->> 'total_stock')::integer,
    p_created_by,
    (v_fields ->> 'starts_at')::timestamptz,
    (v_fields ->> 'ends_at')::timestamptz,
    v_fields ->> 'status',
    nullif(p_drop -> 'variants', 'null'),
    v_fields - array['name', 'price', 'total_stock', 'starts_at', 'ends_at', 'status'],
    p_idempotency_key
  ) c;
  v_replayed := inventory.is_replay(p_created_by, p_idempotency_key);
  return next row(1, case when v_replayed then 200 else 201 end, null, null, v_replayed, to_json(v_drop))::api.outcome;
end
$$;

comment on function api.create_drop_from_json(jsonb, uuid, text) is
'Put a drop up for sale from one JSON object with the parameters of api.create_drop, terms included. The outcome has status 201, or
200 if the Idempotency-Key came before. "near" is the id of a drop that baskets are to have together with this one.';
