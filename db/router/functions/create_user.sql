-- api.create_user: make a user whose name nobody has on any node.
--
-- The user is made on the node that the name picks, or the key if there is one, and then the name is claimed. If it is another
-- user's, or cannot be claimed because a node is away, the new user is forgotten again, which frees the key. A request that was
-- interrupted between the two can be repeated with its key.

create or replace function api.create_user(p_username text, p_idempotency_key text default null)
returns setof api."user"
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select r.*
  from api.create_user_outcome(p_username, p_idempotency_key) o
  cross join lateral json_populate_record(null::api."user", o.data) r;
end
$$;

comment on function api.create_user(text, text) is
'Make a user with this username and return it. A repeated request with the same p_idempotency_key returns the user made before.';
