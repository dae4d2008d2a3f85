-- inventory.require_user: refuse to act for a user who does not exist.
--
-- Locks: none. Errors: AUTH_REQUIRED.

create or replace function inventory.require_user(p_user_id uuid)
returns void
language plpgsql stable
as $$
begin
  if not exists (select from inventory.users u where u.id = p_user_id) then
    perform inventory.refuse('AUTH_REQUIRED');
  end if;
end
$$;

comment on function inventory.require_user(uuid) is 'Raise AUTH_REQUIRED unless the user exists.';
