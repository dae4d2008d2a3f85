-- api.create_drop_from_json: put a drop up for sale from one JSON object, as HTTP clients send it.
--
-- Purpose: calls api.create_drop with the fields of the object, and says whether the Idempotency-Key came before. Status: 201, or
-- 200 of a replay. Locks and errors: see there; a refusal is raised.

create or replace function api.create_drop_from_json(p_drop jsonb, p_created_by uuid, p_idempotency_key text default null)
returns setof api.outcome
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_drop api.drop_row;
  v_replayed boolean;
begin
  perform inventory.require_self(p_created_by);
  select c.* into v_drop
  from api.create_drop(
    p_drop ->> 'name',
    (p_drop ->> 'price')::numeric,
    (p_drop ->> 'total_stock')::integer,
    p_created_by,
    (p_drop ->> 'starts_at')::timestamptz,
    (p_drop ->> 'ends_at')::timestamptz,
    p_drop ->> 'status',
    nullif(p_drop -> 'variants', 'null'),
    jsonb_strip_nulls(p_drop - array['name', 'price', 'total_stock', 'starts_at', 'ends_at', 'status', 'variants']),
    p_idempotency_key
  ) c;
  v_replayed := inventory.is_replay(p_created_by, p_idempotency_key);
  return next row(1, case when v_replayed then 200 else 201 end, null, null, v_replayed, to_json(v_drop))::api.outcome;
end
$$;

comment on function api.create_drop_from_json(jsonb, uuid, text) is
'Put a drop up for sale from one JSON object with the parameters of api.create_drop, terms included. The outcome has status 201, or
200 if the Idempotency-Key came before.';
