-- inventory.variants_after_changes: the variants of a drop as they are after these changes, in their order.
--
-- Purpose: a step of api.update_drop. It decides and writes nothing. p_variants is a JSON array of all variants that the drop is to
-- have, in their order: {id, name, total_stock or add_stock, price} changes one, of which only id must be given; without an id it
-- is a new one. A variant that is not in the array is to go.
--
-- Locks: none; the caller holds the drop's row. Errors: VALIDATION_ERROR, VARIANT_NOT_FOUND, VARIANT_IN_USE, STOCK_BELOW_COMMITTED.

create or replace function inventory.variants_after_changes(p_drop inventory.drops, p_variants jsonb)
returns inventory.variants[]
language plpgsql stable
as $$
declare
  v_change jsonb;
  v_variant inventory.variants;
  v_rows inventory.variants[] := '{}';
  v_committed integer;
begin
  if p_drop.available_stock <> p_drop.total_stock and not exists (select from inventory.variants v where v.drop_id = p_drop.id) then
    perform inventory.refuse(
      'VARIANT_IN_USE', 'Units of this drop are held or sold without a variant, so it cannot be given variants.');
  end if;
  if jsonb_typeof(p_variants) <> 'array' or jsonb_array_length(p_variants) not between 1 and 200 then
    perform inventory.refuse('VALIDATION_ERROR', 'variants: must be an array of 1 to 200 objects');
  end if;
  for v_change in select jsonb_array_elements(p_variants) loop
    if jsonb_typeof(v_change) <> 'object' then
      perform inventory.refuse('VALIDATION_ERROR', 'variants: must be an array of objects');
    end if;
    if not v_change ? 'id' then
      v_rows := v_rows || inventory.new_variants(p_drop, jsonb_build_array(v_change), cardinality(v_rows) + 1);
      continue;
    end if;
    select * into v_variant from inventory.variants v where v.drop_id = p_drop.id and v.id::text = lower(v_change ->> 'id');
    if not found or exists (select from unnest(v_rows) r where r.id = v_variant.id) then
      perform inventory.refuse('VARIANT_NOT_FOUND', format('This drop has no variant %s, or it is named twice.', v_change ->> 'id'));
    end if;
    v_committed := v_variant.total_stock - v_variant.available_stock;
    v_variant := inventory.variant_after_changes(p_drop, v_variant, v_change);
    if v_variant.total_stock < v_committed then
      perform inventory.refuse('STOCK_BELOW_COMMITTED', format(
        'total_stock of %s may not be less than the %s units held and sold.', v_variant.name, v_committed));
    end if;
    v_variant.available_stock := v_variant.total_stock - v_committed;
    v_variant.position := cardinality(v_rows) + 1;
    v_rows := v_rows || v_variant;
  end loop;

  if not exists (select from inventory.variants v where v.drop_id = p_drop.id)
    and exists (select from inventory.reservations r where r.drop_id = p_drop.id) then
    perform inventory.refuse('VARIANT_IN_USE', 'Units of this drop were held or sold without a variant, so it cannot get variants.');
  end if;
  select v.* into v_variant
  from inventory.variants v
  where v.drop_id = p_drop.id and v.id not in (select r.id from unnest(v_rows) r)
    and (v.available_stock <> v.total_stock
      or exists (select from inventory.reservations r where r.drop_id = v.drop_id and r.variant_id = v.id))
  limit 1;
  if found then
    perform inventory.refuse('VARIANT_IN_USE', format('Units of %s were held or sold, so it cannot go.', v_variant.name));
  end if;
  return v_rows;
end
$$;

comment on function inventory.variants_after_changes(inventory.drops, jsonb) is
'The variants of a drop after these changes. Raises if one cannot be changed so, or cannot go.';
