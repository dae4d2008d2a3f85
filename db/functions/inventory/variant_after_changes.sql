-- inventory.variant_after_changes: a variant as it is after the changes of one JSON object, its available stock and place aside.
--
-- Locks: none; the caller holds the drop's row. Errors: VALIDATION_ERROR, naming the field.

create or replace function inventory.variant_after_changes(
  p_drop inventory.drops,
  p_variant inventory.variants,
  p_change jsonb
)
returns inventory.variants
language plpgsql stable
as $$
declare
  v_stock integer;
  v_field text := case when p_change ? 'add_stock' then 'add_stock' else 'total_stock' end;
begin
  if exists (select from jsonb_object_keys(p_change) k where k not in ('id', 'name', 'total_stock', 'add_stock', 'price')) then
    perform inventory.refuse('VALIDATION_ERROR', 'variants: a variant has id, name, total_stock or add_stock, and price, nothing else');
  end if;
  if p_change ? 'name' then
    if jsonb_typeof(p_change -> 'name') <> 'string' then
      perform inventory.refuse('VALIDATION_ERROR', 'variants.name: must be a string');
    end if;
    p_variant.name := p_change ->> 'name';
  end if;
  if p_change ? 'price' then
    if jsonb_typeof(p_change -> 'price') not in ('number', 'null') then
      perform inventory.refuse('VALIDATION_ERROR', 'variants.price: must be a number');
    end if;
    p_variant.price := inventory.check_price((p_change ->> 'price')::numeric, p_drop.currency, 'variants.price');
  end if;
  if p_change ? 'total_stock' or p_change ? 'add_stock' then
    if p_change ?& array['total_stock', 'add_stock'] then
      perform inventory.refuse('VALIDATION_ERROR', 'variants.add_stock: give it or total_stock, not both');
    elsif inventory.whole_number(p_change -> v_field) is null then
      perform inventory.refuse('VALIDATION_ERROR', format('variants.%s: must be a whole number', v_field));
    end if;
    v_stock := case
      when p_change ? 'total_stock' then inventory.whole_number(p_change -> 'total_stock')
      else inventory.whole_number(to_jsonb(p_variant.total_stock + (p_change ->> 'add_stock')::numeric))
    end;
    if v_stock is null and (p_change ->> 'add_stock')::numeric > 0 then
      perform inventory.refuse('VALIDATION_ERROR', 'variants.total_stock: must be 2147483647 or less');
    elsif coalesce(v_stock < 1, true) then
      perform inventory.refuse_constraint('variants_total_stock_check');
    end if;
    p_variant.total_stock := v_stock;
  end if;
  p_variant.updated_at := now();
  return p_variant;
end
$$;

comment on function inventory.variant_after_changes(inventory.drops, inventory.variants, jsonb) is
'A variant after the changes of one JSON object. Raises VALIDATION_ERROR, writes nothing.';
