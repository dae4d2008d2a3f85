-- api.create_drop: put a drop up for sale, with all its stock available.
--
-- A drop has p_total_stock units, or it has variants (sizes, tiers): p_variants is a JSON array of objects with name, total_stock
-- and perhaps price, in the order in which they are shown. Then its stock is the sum. p_terms is a JSON object with any of currency,
-- limit_per_user, hold_seconds, rehold_after_seconds, extension_seconds and image_url.
--
-- Without a status, starts_at decides: if it is missing the drop is a draft, if it is in the future the drop is scheduled,
-- otherwise live.
--
-- With p_idempotency_key a repeated request returns the drop that the first one made, as it is now. A key counts once for each
-- seller.
--
-- Locks: the key. It waits for a transaction that is making a drop with the same key.
-- Errors: FORBIDDEN (a seller names another user), AUTH_REQUIRED (the seller does not exist), VALIDATION_ERROR,
-- IDEMPOTENCY_KEY_REUSED, DROP_NOT_FOUND (the drop that the first request made was deleted).

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
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_status text := coalesce(
    p_status,
    case when p_starts_at is null then 'draft' when p_starts_at > now() then 'scheduled' else 'live' end
  );
  v_id uuid;
  v_earlier_id uuid;
  v_drop inventory.drops;
  v_variants inventory.variants[];
  v_constraint_name text;
begin
  perform inventory.require_self(p_created_by);
  perform inventory.require_user(p_created_by);
  v_id := inventory.uuid_v7(); -- not before users was read: see inventory.set_node
  -- Equal times and prices have one text here, whatever the time zone of the session is.
  v_earlier_id := inventory.claim_idempotency_key(
    p_created_by, p_idempotency_key, 'create_drop',
    jsonb_build_array(
      p_name, trim_scale(p_price), p_total_stock, p_starts_at at time zone 'UTC', p_ends_at at time zone 'UTC', p_status, p_variants,
      p_terms),
    v_id);
  if v_earlier_id is not null then
    return query select d.* from api.get_drop(v_earlier_id) d;
    return;
  end if;
  perform inventory.check_terms(p_terms);
  if v_status in ('ended', 'cancelled') then
    perform inventory.refuse('VALIDATION_ERROR', 'status: a new drop is draft, scheduled or live');
  end if;
  if v_status = 'live' and p_starts_at > now() then
    perform inventory.refuse('VALIDATION_ERROR', 'starts_at: a live drop has started; leave status out to schedule it');
  end if;

  v_drop := jsonb_populate_record(
    row(
      v_id, coalesce(p_name, ''), inventory.check_price(p_price, coalesce(p_terms ->> 'currency', 'USD')), p_total_stock, p_total_stock,
      case when v_status = 'live' then coalesce(p_starts_at, now()) else p_starts_at end, p_ends_at, v_status, p_created_by,
      now(), now(), 'USD', null, null, 0, null, null, 'infinity', 1, false, null
    )::inventory.drops,
    coalesce(p_terms, '{}'));
  v_variants := inventory.new_variants(v_drop, p_variants, 1);
  if p_variants is not null then
    if p_total_stock is not null then
      perform inventory.refuse('VALIDATION_ERROR', 'total_stock: give it or variants, not both');
    end if;
    v_drop.total_stock := inventory.sum_of_stock(v_variants);
    v_drop.available_stock := v_drop.total_stock;
  end if;
  if v_drop.total_stock is null then
    perform inventory.refuse('VALIDATION_ERROR', 'total_stock: is required, or variants instead');
  elsif v_drop.total_stock < 1 then
    perform inventory.refuse_constraint('drops_total_stock_check');
  end if;

  insert into inventory.drops select (v_drop).*;
  insert into inventory.variants select v.* from unnest(v_variants) v;
  perform inventory.record_change(
    v_drop.id, 'created', p_created_by, to_jsonb(inventory.drop_row(v_drop)) - array['id', 'created_by', 'createdAt', 'updatedAt']);
  return query select r.* from inventory.drop_row(v_drop) r;
exception
  when check_violation or unique_violation then
    get stacked diagnostics v_constraint_name = constraint_name;
    perform inventory.refuse_constraint(v_constraint_name);
  when not_null_violation then
    get stacked diagnostics v_constraint_name = column_name;
    perform inventory.refuse('VALIDATION_ERROR', v_constraint_name || ': is required');
end
$$;

comment on function api.create_drop(text, numeric, integer, uuid, timestamptz, timestamptz, text, jsonb, jsonb, text) is
'Put a drop of p_total_stock units up for sale, or one of p_variants ([{"name", "total_stock", "price"}]), and return it. Without
p_status the times decide: a drop without p_starts_at is a draft, a future p_starts_at makes it scheduled, a past one live. p_terms:
{"currency", "limit_per_user", "hold_seconds", "rehold_after_seconds", "extension_seconds", "image_url"}. A repeated request with
the same p_idempotency_key returns the drop made before.';
