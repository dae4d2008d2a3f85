-- inventory.check_field_of_drop: refuse a value in JSON that a field of a drop cannot have: of a wrong type, or out of its range.
--
-- Purpose: what a caller sends as JSON is checked in one place. null is accepted for a time, the picture, and a term that a
-- drop may do without. What a constraint says is left to the statement that writes the value, because other rules may come first.
--
-- Locks: none. Errors: VALIDATION_ERROR, naming the field.

create or replace function inventory.check_field_of_drop(p_field text, p_value jsonb)
returns void
language plpgsql stable
as $$
declare
  v_kind text := case
    when p_field in ('name', 'status', 'starts_at', 'ends_at', 'currency', 'image_url') then 'string'
    when p_field in ('price', 'total_stock', 'limit_per_user', 'hold_seconds', 'rehold_after_seconds', 'extension_seconds') then 'number'
  end;
begin
  if v_kind is null then
    perform inventory.refuse('VALIDATION_ERROR', p_field || ': is not a field that can be set');
  end if;
  if p_value = 'null' then
    if p_field not in ('starts_at', 'ends_at', 'limit_per_user', 'hold_seconds', 'extension_seconds', 'image_url') then
      perform inventory.refuse('VALIDATION_ERROR', p_field || ': may not be null');
    end if;
    return;
  end if;
  if jsonb_typeof(p_value) <> v_kind then
    perform inventory.refuse('VALIDATION_ERROR', format('%s: must be a %s', p_field, v_kind));
  end if;
  if p_field in ('starts_at', 'ends_at') and p_value #>> '{}' !~ '^\s*[0-9]{4,6}-[0-9]{2}-[0-9]{2}' then
    perform inventory.refuse('VALIDATION_ERROR', p_field || ': must be a time such as 2026-12-01T18:00:00Z');
  end if;
  perform jsonb_populate_record(null::inventory.drops, jsonb_build_object(p_field, p_value));
exception
  when check_violation then
    return;
  when data_exception then
    perform inventory.refuse('VALIDATION_ERROR', p_field || ': is not a value this field can have');
end
$$;

comment on function inventory.check_field_of_drop(text, jsonb) is
'Raise VALIDATION_ERROR unless a field of a drop can have this value, as far as its type goes.';
