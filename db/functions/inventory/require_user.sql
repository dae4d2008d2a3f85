-- inventory.require_user: raise AUTH_REQUIRED if this user does not exist.
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
