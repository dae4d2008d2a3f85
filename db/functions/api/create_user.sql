-- api.create_user: make a user with a username of its own.
--
-- With p_idempotency_key a repeated request returns the user that the first one made. Nobody is identified here, so a key counts
-- once for all callers.
--
-- The name is stored in Unicode's normal form C. It is taken if it looks like another user's (inventory.name_key).
--
-- Locks: the key. It waits for a transaction that is making a user with the same username or the same key.
-- Errors: VALIDATION_ERROR, USERNAME_TAKEN, IDEMPOTENCY_KEY_REUSED.

create or replace function api.create_user(p_username text, p_idempotency_key text default null)
returns setof api."user"
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id uuid := inventory.uuid_v7();
  v_earlier_id uuid;
  v_constraint_name text;
begin
  v_earlier_id := inventory.claim_idempotency_key(
    null, p_idempotency_key, 'create_user', jsonb_build_object('username', p_username), v_id);
  if v_earlier_id is null then
    insert into inventory.users (id, username) values (v_id, normalize(coalesce(p_username, ''), NFC));
  end if;
  return query
  select u.id, u.username, u.created_at, u.updated_at from inventory.users u where u.id = coalesce(v_earlier_id, v_id);
exception
  when unique_violation then
    perform inventory.refuse('USERNAME_TAKEN');
  when check_violation then
    get stacked diagnostics v_constraint_name = constraint_name;
    perform inventory.refuse_constraint(v_constraint_name);
end
$$;

comment on function api.create_user(text, text) is
'Make a user with this username and return it. A repeated request with the same p_idempotency_key returns the user made before.';
