-- api.forget_user: make a user anonymous. What was sold stays, with the user's id; the name is replaced.
--
-- A user who was forgotten before keeps that name. The units that the user holds go back to stock, because nobody is left who would
-- buy them. The id stays, because the books must still say which sales belong together. A forgotten user who comes back acts under
-- the new name for ever: neither api.ensure_user nor api.rename_user_batch brings the old one back. Events in the log keep the old
-- name until they are pruned (EVENT_RETENTION_SECONDS), and so do the messages for webhook endpoints.
--
-- Locks, in this order: those of api.cancel_batch, if the user holds units; the user's row. Errors: FORBIDDEN (a buyer or seller
-- names another user), AUTH_REQUIRED; if the user holds units of several drops lock_not_available (55P03) after 100 ms at a lock.

create or replace function api.forget_user(p_user_id uuid)
returns setof api."user"
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_held api.cancel_request[];
begin
  perform inventory.require_self(p_user_id);
  perform inventory.require_user(p_user_id);
  v_held := array(
    select row(r.id, p_user_id)::api.cancel_request
    from inventory.reservations r
    where r.user_id = p_user_id and r.status = 'ACTIVE'
    order by r.id
  );
  if v_held <> '{}' then
    perform from api.cancel_batch(v_held);
  end if;
  delete from inventory.idempotency_keys k where k.user_id = p_user_id or k.row_id = p_user_id; -- that of its making too
  update inventory.users u
  set username = 'former-user-' || substr(md5(gen_random_uuid()::text), 1, 12), forgotten_at = now(), updated_at = now()
  where u.id = p_user_id and u.forgotten_at is null;
  return query select u.id, u.username, u.created_at, u.updated_at from inventory.users u where u.id = p_user_id;
end
$$;

comment on function api.forget_user(uuid) is
'Replace a user''s name by one that says nothing, give back what the user holds, and return the user. What was sold stays.';
