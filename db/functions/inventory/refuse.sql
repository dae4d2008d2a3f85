-- inventory.refuse: raise a refusal of api.errors, with its own sentence or a more precise one.
--
-- Locks: none. Errors: the one asked for, as SQLSTATE PT<status>, MESSAGE the code, DETAIL the sentence.

create or replace function inventory.refuse(p_code text, p_message text default null)
returns void
language plpgsql
as $$
declare
  v_error record;
begin
  select * into strict v_error from api.errors() e where e.code = p_code;
  raise exception using
    errcode = 'PT' || v_error.status,
    message = v_error.code,
    detail = coalesce(p_message, v_error.message);
end
$$;

comment on function inventory.refuse(text, text) is 'Raise the error with this code of api.errors().';
