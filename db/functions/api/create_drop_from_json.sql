-- api.create_drop_from_json: put a drop up for sale from one JSON object, as HTTP clients send it.
--
-- Purpose: calls api.create_drop with the fields of the object. Locks and errors: see there.

create or replace function api.create_drop_from_json(p_drop jsonb, p_created_by uuid)
returns setof api.drop_row
language sql security definer
set search_path = pg_catalog, pg_temp
as $$
  select c.*
  from api.create_drop(
    p_drop ->> 'name',
    (p_drop ->> 'price')::numeric,
    (p_drop ->> 'total_stock')::integer,
    p_created_by,
    (p_drop ->> 'starts_at')::timestamptz,
    (p_drop ->> 'ends_at')::timestamptz,
    p_drop ->> 'status',
    nullif(p_drop -> 'variants', 'null'),
    jsonb_strip_nulls(p_drop - array['name', 'price', 'total_stock', 'starts_at', 'ends_at', 'status', 'variants'])
  ) c
$$;

comment on function api.create_drop_from_json(jsonb, uuid) is
'Put a drop up for sale from one JSON object with the parameters of api.create_drop, terms included, and return it.';
