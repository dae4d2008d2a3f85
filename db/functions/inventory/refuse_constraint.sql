-- inventory.refuse_constraint: raise VALIDATION_ERROR for a violated constraint, with the constraint's comment as the sentence.
--
-- So a rule for a value is written once, as the constraint, and the comment of the constraint is what the caller is told.
--
-- Locks: none. Errors: VALIDATION_ERROR. A constraint without a comment is an internal error; a test makes sure that every
-- constraint that a caller can violate has one.

create or replace function inventory.refuse_constraint(p_constraint_name text)
returns void
language plpgsql
as $$
declare
  v_message text;
begin
  select pg_catalog.obj_description(c.oid, 'pg_constraint') into v_message
  from pg_catalog.pg_constraint c
  where c.conname = p_constraint_name and c.connamespace = 'inventory'::regnamespace;
  if v_message is null then
    raise exception 'constraint % has no comment to refuse with', p_constraint_name;
  end if;
  perform inventory.refuse('VALIDATION_ERROR', v_message);
end
$$;

comment on function inventory.refuse_constraint(text) is
'Raise VALIDATION_ERROR for a violated constraint, with the constraint''s comment as the sentence.';
