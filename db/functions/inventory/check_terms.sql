-- inventory.check_terms: refuse terms of a drop that no drop can have: unknown fields, wrong types.
--
-- Purpose: a step of api.create_drop. What a constraint of the table says is left to the constraint.
--
-- Locks: none. Errors: VALIDATION_ERROR, naming the field.

create or replace function inventory.check_terms(p_terms jsonb)
returns void
language plpgsql stable
as $$
declare
  v_field text;
  v_value jsonb;
begin
  if jsonb_typeof(p_terms) <> 'object' then
    perform inventory.refuse('VALIDATION_ERROR', 'p_terms: must be an object');
  end if;
  for v_field, v_value in select * from jsonb_each(p_terms) loop
    perform inventory.check_field_of_drop(v_field, v_value);
  end loop;
  if exists (select from jsonb_object_keys(p_terms) k where k not in (
    'currency', 'limit_per_user', 'hold_seconds', 'rehold_after_seconds', 'extension_seconds', 'image_url')) then
    perform inventory.refuse('VALIDATION_ERROR', 'p_terms: has a field that is no term of a drop');
  end if;
end
$$;

comment on function inventory.check_terms(jsonb) is 'Raise VALIDATION_ERROR unless these are terms that a drop can have.';
