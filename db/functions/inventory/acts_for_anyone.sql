-- inventory.acts_for_anyone: whether the caller may act for every user: the service, because it has verified who asks, and the owner
-- of the functions, in psql for example.
--
-- Who calls is the role that the session has set, or else the role that logged in. In a function with the rights of its owner
-- current_user is the owner, but the setting "role" stays what the session has set.
--
-- Locks: none. Errors: none.

create or replace function inventory.acts_for_anyone()
returns boolean
language plpgsql stable
as $$
declare
  v_caller name := coalesce(nullif(current_setting('role'), 'none'), session_user);
begin
  return v_caller = current_user or pg_has_role(v_caller, 'lastpair_service', 'usage');
end
$$;

comment on function inventory.acts_for_anyone() is 'May the caller act for every user? The service and the owner may.';
