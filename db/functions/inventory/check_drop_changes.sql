-- inventory.check_drop_changes: refuse changes of a drop that no drop can have: unknown fields, wrong types, values out of range.
--
-- Purpose: the first step of api.update_drop. It looks at the JSON alone, before anything is locked. What depends on the drop is
-- checked later, and what a constraint of the table says is left to the constraint.
--
-- Locks: none. Errors: VALIDATION_ERROR, naming the field.

create or replace function inventory.check_drop_changes(p_changes jsonb)
returns void
language plpgsql stable
as $$
declare
  v_field text;
  v_value jsonb;
begin
  if jsonb_typeof(p_changes) is distinct from 'object' or p_changes = '{}' then
    perform inventory.refuse('VALIDATION_ERROR', 'body: must be an object with at least one field to change');
  end if;
  if p_changes ? 'currency' then
    perform inventory.refuse('VALIDATION_ERROR', 'currency: is not a field that can be changed');
  end if;
  for v_field, v_value in select * from jsonb_each(p_changes - array['variants', 'add_stock', 'paused']) loop
    perform inventory.check_field_of_drop(v_field, v_value);
  end loop;
  if (p_changes ->> 'total_stock')::integer < 1 then
    perform inventory.refuse_constraint('drops_total_stock_check');
  end if;
  if p_changes ? 'paused' and jsonb_typeof(p_changes -> 'paused') <> 'boolean' then
    perform inventory.refuse('VALIDATION_ERROR', 'paused: must be a boolean');
  end if;
  if p_changes ?& array['total_stock', 'variants'] then
    perform inventory.refuse('VALIDATION_ERROR', 'total_stock: give it or variants, not both');
  end if;
  if p_changes ? 'add_stock' then
    if inventory.whole_number(p_changes -> 'add_stock') is null then
      perform inventory.refuse('VALIDATION_ERROR', 'add_stock: must be a whole number; a negative one takes units away');
    elsif p_changes ? 'total_stock' or p_changes ? 'variants' then
      perform inventory.refuse('VALIDATION_ERROR', 'add_stock: give it, total_stock or variants, one of the three');
    end if;
  end if;
end
$$;

comment on function inventory.check_drop_changes(jsonb) is
'Raise VALIDATION_ERROR unless this is an object of fields of a drop that can be changed, each with a value of its type.';
