-- inventory.refuse_cursor: raise the error for a row that a page cannot come after, because it is not of the list.
--
-- Locks: none. Errors: VALIDATION_ERROR.

create or replace function inventory.refuse_cursor()
returns void
language plpgsql
as $$
begin
  perform inventory.refuse('VALIDATION_ERROR', 'cursor: is not of this list; begin again without one');
end
$$;

comment on function inventory.refuse_cursor() is 'Raise VALIDATION_ERROR: a page cannot come after this row.';
