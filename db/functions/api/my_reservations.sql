-- api.my_reservations: list the reservations that a user can still purchase, the newest first.
--
-- Locks: none. Errors: FORBIDDEN (a buyer or seller names another user), AUTH_REQUIRED.

create or replace function api.my_reservations(p_user_id uuid)
returns setof api.reservation_row
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform inventory.require_self(p_user_id);
  perform inventory.require_user(p_user_id);
  return query
  select (inventory.reservation_row(r)).*
  from inventory.reservations r
  where r.user_id = p_user_id and r.status = 'ACTIVE' and r.expires_at > now()
  order by r.created_at desc, r.id desc;
end
$$;

comment on function api.my_reservations(uuid) is 'List a user''s ACTIVE reservations that have not run out, the newest first.';
