-- api.ensure_user: the user with this id, made now if it is missing.
--
-- Purpose: an identity established elsewhere (a header in development, a token) becomes a user on first use. The id decides;
-- a username that another user has gets a suffix rather than a refusal, for the request behind it must be served.
--
-- Locks: waits for another transaction that is making the same user, or one of the same name. Errors: VALIDATION_ERROR.

create or replace function api.ensure_user(p_user_id uuid, p_username text default null)
returns setof api."user"
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_username text := coalesce(p_username, 'user-' || left(p_user_id::text, 8));
  v_constraint_name text;
begin
  if p_user_id is null then
    perform inventory.refuse('VALIDATION_ERROR', 'p_user_id: is required');
  end if;
  loop
    return query
    select u.id, u.username, u.created_at, u.updated_at from inventory.users u where u.id = p_user_id;
    exit when found;

    begin
      insert into inventory.users (id, username) values (p_user_id, v_username)
      on conflict (id) do nothing;
    exception
      when unique_violation then
        v_username := left(coalesce(p_username, 'user'), 190) || '-' || substr(md5(gen_random_uuid()::text), 1, 8);
      when check_violation then
        get stacked diagnostics v_constraint_name = constraint_name;
        perform inventory.refuse_constraint(v_constraint_name);
    end;
  end loop;
end
$$;

comment on function api.ensure_user(uuid, text) is
'The user with this id, made now if it is missing, named p_username (default user-<first 8 hex of the id>; a name that is taken
gets a suffix).';
