-- api.create_user: make a user with a username of its own.
--
-- Locks: none. It waits for a transaction that is making a user with the same username.
-- Errors: VALIDATION_ERROR, USERNAME_TAKEN.

create or replace function api.create_user(p_username text)
returns setof api."user"
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_constraint_name text;
begin
  return query
  insert into inventory.users (username) values (coalesce(p_username, ''))
  returning id, username, created_at, updated_at;
exception
  when unique_violation then
    perform inventory.refuse('USERNAME_TAKEN');
  when check_violation then
    get stacked diagnostics v_constraint_name = constraint_name;
    perform inventory.refuse_constraint(v_constraint_name);
end
$$;

comment on function api.create_user(text) is 'Make a user with this username and return it.';
