-- inventory.require_usual_ttl: refuse a buyer who chooses how long a hold lasts.
--
-- Locks: none. Errors: FORBIDDEN.

create or replace function inventory.require_usual_ttl(p_ttl_seconds integer)
returns void
language plpgsql stable
as $$
begin
  if p_ttl_seconds is distinct from 60 and not inventory.acts_for_anyone() then
    perform inventory.refuse('FORBIDDEN', 'p_ttl_seconds: a buyer does not choose how long a hold lasts.');
  end if;
end
$$;

comment on function inventory.require_usual_ttl(integer) is 'Refuse a buyer who chooses how long a hold lasts.';
