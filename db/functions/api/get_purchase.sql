-- api.get_purchase: return a purchase to its user, or to the user who made the drop.
--
-- PURCHASE_NOT_FOUND is also the answer for another user's, because it must not show that the purchase exists. Without a user (null)
-- it is anyone's; only the service and the owner may ask so.
--
-- Locks: none. Errors: FORBIDDEN (a buyer or seller names another user, or none), PURCHASE_NOT_FOUND.

create or replace function api.get_purchase(p_purchase_id uuid, p_user_id uuid)
returns setof api.purchase_row
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform inventory.require_self(p_user_id);
  return query
  select (inventory.purchase_row(x)).*
  from inventory.purchases x
  where x.id = p_purchase_id
    and (
      p_user_id is null or x.user_id = p_user_id
      or exists (select from inventory.drops d where d.id = x.drop_id and d.created_by = p_user_id)
    );
  if not found then
    perform inventory.refuse('PURCHASE_NOT_FOUND');
  end if;
end
$$;

comment on function api.get_purchase(uuid, uuid) is
'Return a purchase to its user, or to the user who made the drop.';
