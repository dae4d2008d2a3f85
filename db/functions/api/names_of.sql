-- api.names_of: the usernames of those of these users who are known here.
--
-- Purpose: a user who acts on a node for the first time gets the name that another node knows.
--
-- Locks: none. Errors: none.

create or replace function api.names_of(p_user_ids uuid[])
returns table (user_id uuid, username text, is_forgotten boolean)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select u.id, u.username, u.forgotten_at is not null from inventory.users u where u.id = any (p_user_ids)
$$;

comment on function api.names_of(uuid[]) is
'For a router: the usernames of those of these users who are known here, and whether they were forgotten.';
