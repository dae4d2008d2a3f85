-- api.ensure_user: return the user with this id; make the user first if there is none.
--
-- Purpose: an identity that was established elsewhere (a header in development, a token) becomes a user on first use. The id
-- decides. A username that another user has gets a suffix and is not refused, because the request of this user must be served.
--
-- Locks: none. It waits for a transaction that is making a user with the same id or the same username.
-- Errors: FORBIDDEN (a buyer or seller names another user), VALIDATION_ERROR.

create or replace function api.ensure_user(p_user_id uuid, p_username text default null)
returns setof api."user"
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_username text := normalize(coalesce(p_username, 'user-' || left(p_user_id::text, 8)), NFC);
  v_constraint_name text;
begin
  perform inventory.require_self(p_user_id);
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
        v_username := left(normalize(coalesce(p_username, 'user'), NFC), 190) || '-' || substr(md5(gen_random_uuid()::text), 1, 8);
      when check_violation then
        get stacked diagnostics v_constraint_name = constraint_name;
        perform inventory.refuse_constraint(v_constraint_name);
    end;
  end loop;
end
$$;

comment on function api.ensure_user(uuid, text) is
'Return the user with this id; make the user first if there is none. The new user is called p_username, by default
user-<the first 8 hex digits of the id>; a name that is taken gets a suffix.';
