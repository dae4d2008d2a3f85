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
  v_kind text;
begin
  if jsonb_typeof(p_changes) is distinct from 'object' or p_changes = '{}' then
    perform inventory.refuse('VALIDATION_ERROR', 'body: must be an object with at least one field to change');
  end if;
  for v_field, v_value in select * from jsonb_each(p_changes) loop
    v_kind := case v_field
      when 'name' then 'string' when 'status' then 'string' when 'starts_at' then 'string' when 'ends_at' then 'string'
      when 'price' then 'number' when 'total_stock' then 'number'
    end;
    if v_kind is null then
      perform inventory.refuse('VALIDATION_ERROR', v_field || ': is not a field that can be changed');
    end if;
    if v_value = 'null' and v_field in ('starts_at', 'ends_at') then
      continue;
    elsif v_value = 'null' then
      perform inventory.refuse('VALIDATION_ERROR', v_field || ': may not be null');
    elsif jsonb_typeof(v_value) <> v_kind then
      perform inventory.refuse('VALIDATION_ERROR', format('%s: must be a %s', v_field, v_kind));
    end if;
    if v_field = 'price' then
      perform inventory.check_price((v_value #>> '{}')::numeric);
    end if;
    begin
      perform jsonb_populate_record(null::inventory.drops, jsonb_build_object(v_field, v_value));
    exception when data_exception then
      perform inventory.refuse('VALIDATION_ERROR', v_field || ': is not a value this field can have');
    end;
  end loop;
  if (p_changes ->> 'total_stock')::integer < 1 then
    perform inventory.refuse_constraint('drops_total_stock_check');
  end if;
end
$$;

comment on function inventory.check_drop_changes(jsonb) is
'Raise VALIDATION_ERROR unless this is an object of fields of a drop that can be changed, each with a value of its type.';
