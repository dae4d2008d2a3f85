-- api.ensure_user: on the node of the id; router.ensure_users makes the user on the nodes on which the user acts.

create or replace function api.ensure_user(p_user_id uuid, p_username text default null)
returns setof api."user"
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_node integer := router.node_of_user(p_user_id);
begin
  perform router.refuse_block();
  if router.caller_role('ensure_user') <> 'lastpair_service' or p_user_id is null then
    -- The node knows whether the caller may name this user. It refuses, or makes the user if there is none.
    if p_user_id::text is distinct from lower(nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub')
      or p_user_id is null
    then
      return query
      select r.*
      from json_populate_recordset(null::api."user", router.ask(
        v_node, 'ensure_user', jsonb_build_object('p_user_id', p_user_id, 'p_username', p_username))) r;
      return;
    end if;
  end if;
  return query
  select r.*
  from router.ensure_users(v_node, array[row(p_user_id, p_username)::api.user_request]) o
  cross join lateral json_populate_record(null::api."user", o.data) r;
end
$$;

comment on function api.ensure_user(uuid, text) is
'Return the user with this id; make the user first if there is none. The new user is called p_username, by default
user-<the first 8 hex digits of the id>; a name that is taken gets a suffix.';
