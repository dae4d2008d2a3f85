-- api.get_basket: return one of a user's baskets, with its reservations as they are now.
--
-- Locks: none. Errors: FORBIDDEN (a buyer names another user), AUTH_REQUIRED, BASKET_NOT_FOUND.

create or replace function api.get_basket(p_basket_id uuid, p_user_id uuid)
returns setof api.basket_row
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform inventory.require_self(p_user_id);
  return query select (inventory.basket_row(inventory.find_basket(p_basket_id, p_user_id))).*;
end
$$;

comment on function api.get_basket(uuid, uuid) is 'Return one of a user''s baskets, with its reservations as they are now.';
