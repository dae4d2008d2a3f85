-- inventory.refuse_constraint: turn a violated constraint into VALIDATION_ERROR, in the words of the constraint's comment.
--
-- Locks: none. Errors: VALIDATION_ERROR; an internal error when the constraint has no comment, which a test rules out.
--
-- A value rule is thereby written once, as the constraint; its comment is what the caller is told.

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
'Raise VALIDATION_ERROR in the words of a violated constraint''s comment.';
