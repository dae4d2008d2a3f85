-- api.create_drop: on the node with the fewest live units (router.node_for_drop). With an Idempotency-Key the node is found again.

create or replace function api.create_drop(
  p_name text,
  p_price numeric,
  p_total_stock integer,
  p_created_by uuid,
  p_starts_at timestamptz default null,
  p_ends_at timestamptz default null,
  p_status text default null,
  p_variants jsonb default null,
  p_terms jsonb default null,
  p_idempotency_key text default null
)
returns setof api.drop_row
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform router.refuse_block();
  return query
  select r.*
  from json_populate_recordset(
    null::api.drop_row,
    router.ask(router.node_for_drop(p_created_by, p_idempotency_key), 'create_drop', jsonb_build_object(
      'p_name', p_name, 'p_price', p_price, 'p_total_stock', p_total_stock, 'p_created_by', p_created_by,
      'p_starts_at', p_starts_at, 'p_ends_at', p_ends_at, 'p_status', p_status, 'p_variants', p_variants, 'p_terms', p_terms,
      'p_idempotency_key', p_idempotency_key))
  ) r;
end
$$;

comment on function api.create_drop(text, numeric, integer, uuid, timestamptz, timestamptz, text, jsonb, jsonb, text) is
'Put a drop of p_total_stock units up for sale, or one of p_variants ([{"name", "total_stock", "price"}]), and return it. Without
p_status the times decide: a drop without p_starts_at is a draft, a future p_starts_at makes it scheduled, a past one live. p_terms:
{"currency", "limit_per_user", "hold_seconds", "rehold_after_seconds", "extension_seconds", "image_url"}. A repeated request with
the same p_idempotency_key returns the drop made before.';
