-- inventory.check_limit: refuse a page of a list that is empty or too large.
--
-- Locks: none. Errors: VALIDATION_ERROR.

create or replace function inventory.check_limit(p_limit integer)
returns void
language plpgsql stable
as $$
begin
  if (p_limit between 1 and 1000) is not true then
    perform inventory.refuse('VALIDATION_ERROR', 'limit: must be between 1 and 1000');
  end if;
end
$$;

comment on function inventory.check_limit(integer) is 'Raise VALIDATION_ERROR unless a page of a list may have so many rows.';
