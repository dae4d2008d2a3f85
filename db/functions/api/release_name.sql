-- api.release_name: give a username back that a user has claimed in the register of this node; without a name, all of them.
--
-- Purpose: the user has another name now, was forgotten, or could not be made.
--
-- Locks: the names. Errors: none. A name that the user has not claimed here is left as it is.

create or replace function api.release_name(p_user_id uuid, p_username text default null)
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  delete from inventory.registered_names r
  where r.user_id = p_user_id and (p_username is null or r.name_key = inventory.name_key(p_username));
end
$$;

comment on function api.release_name(uuid, text) is
'For a router: give back the username that a user has claimed in the register of this node, or all of them.';
