-- api.forget_user: make a user anonymous. What was sold stays, with the user's id; the name is replaced.
--
-- The id stays, because the books must still say which sales belong together. A forgotten user who comes back acts under the new
-- name. Events in the log keep the old name until they are pruned (EVENT_RETENTION_SECONDS).
--
-- Locks: the user's row. Errors: FORBIDDEN (a buyer or seller names another user), AUTH_REQUIRED.

create or replace function api.forget_user(p_user_id uuid)
returns setof api."user"
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform inventory.require_self(p_user_id);
  perform inventory.require_user(p_user_id);
  delete from inventory.idempotency_keys k where k.user_id = p_user_id;
  return query
  update inventory.users u
  set username = 'former-user-' || substr(md5(gen_random_uuid()::text), 1, 12), updated_at = now()
  where u.id = p_user_id
  returning u.id, u.username, u.created_at, u.updated_at;
end
$$;

comment on function api.forget_user(uuid) is 'Replace a user''s name by one that says nothing, and return the user. What was sold stays.';
