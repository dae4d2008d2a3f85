-- inventory.new_variants: rows for new variants of a drop, from a JSON array of {name, total_stock, price}, in this order.
--
-- Purpose: a step of api.create_drop and api.update_drop. It writes nothing. Their places begin at p_first_position.
--
-- Locks: none. Errors: VALIDATION_ERROR, naming the field.

create or replace function inventory.new_variants(p_drop inventory.drops, p_variants jsonb, p_first_position integer)
returns inventory.variants[]
language plpgsql stable
as $$
declare
  v_variant jsonb;
  v_rows inventory.variants[] := '{}';
begin
  if p_variants is null then
    return v_rows;
  end if;
  if jsonb_typeof(p_variants) <> 'array' or jsonb_array_length(p_variants) not between 1 and 200 then
    perform inventory.refuse('VALIDATION_ERROR', 'variants: must be an array of 1 to 200 objects');
  end if;
  for v_variant in select jsonb_array_elements(p_variants) loop
    if jsonb_typeof(v_variant) <> 'object' then
      perform inventory.refuse('VALIDATION_ERROR', 'variants: must be an array of objects');
    end if;
    if not v_variant ?& array['name', 'total_stock'] then
      perform inventory.refuse('VALIDATION_ERROR', 'variants: a new variant needs a name and a total_stock');
    end if;
    if jsonb_typeof(v_variant -> 'name') <> 'string' then
      perform inventory.refuse('VALIDATION_ERROR', 'variants.name: must be a string');
    end if;
    if jsonb_typeof(v_variant -> 'total_stock') is distinct from 'number'
      or (v_variant ->> 'total_stock')::numeric not between 1 and 2147483647
      or (v_variant ->> 'total_stock')::numeric <> trunc((v_variant ->> 'total_stock')::numeric) then
      perform inventory.refuse_constraint('variants_total_stock_check');
    end if;
    if jsonb_typeof(v_variant -> 'price') not in ('number', 'null') then
      perform inventory.refuse('VALIDATION_ERROR', 'variants.price: must be a number');
    end if;
    if exists (select from jsonb_object_keys(v_variant) k where k not in ('name', 'total_stock', 'price')) then
      perform inventory.refuse('VALIDATION_ERROR', 'variants: a variant has name, total_stock and price, nothing else');
    end if;
    v_rows := v_rows || row(
      inventory.uuid_v7(), p_drop.id, v_variant ->> 'name',
      inventory.check_price((v_variant ->> 'price')::numeric, p_drop.currency, 'variants.price'),
      (v_variant ->> 'total_stock')::numeric::integer, (v_variant ->> 'total_stock')::numeric::integer,
      p_first_position + cardinality(v_rows), now(), now()
    )::inventory.variants;
  end loop;
  return v_rows;
end
$$;

comment on function inventory.new_variants(inventory.drops, jsonb, integer) is
'Rows for new variants of a drop, from a JSON array of {name, total_stock, price}. Raises VALIDATION_ERROR, writes nothing.';
