-- inventory.refuse: raise an error of api.errors, with its own sentence or with a more precise one.
--
-- Locks: none. Errors: the one with this code, as SQLSTATE PT<status>, the code as MESSAGE and the sentence as DETAIL. A code
-- that is not defined is an internal error.

create or replace function inventory.refuse(p_code text, p_message text default null)
returns void
language plpgsql
as $$
declare
  v_error record;
begin
  select * into strict v_error from inventory.errors() e where e.code = p_code;
  raise exception using
    errcode = 'PT' || v_error.status,
    message = v_error.code,
    detail = coalesce(p_message, v_error.message);
end
$$;

comment on function inventory.refuse(text, text) is 'Raise the error with this code of api.errors().';
