-- inventory.find_basket: a user's basket, or the refusal of a caller who has none with this id.
--
-- Purpose: a basket of another user is refused like one that does not exist, because the answer must not show that it exists.
--
-- Locks: none. Errors: AUTH_REQUIRED, BASKET_NOT_FOUND.

create or replace function inventory.find_basket(p_basket_id uuid, p_user_id uuid)
returns inventory.baskets
language plpgsql stable
as $$
declare
  v_basket inventory.baskets;
begin
  select * into v_basket from inventory.baskets b where b.id = p_basket_id and b.user_id = p_user_id;
  if not found then
    perform inventory.require_user(p_user_id);
    perform inventory.refuse('BASKET_NOT_FOUND');
  end if;
  return v_basket;
end
$$;

comment on function inventory.find_basket(uuid, uuid) is 
'A user''s basket; raises BASKET_NOT_FOUND if the user has none with this id.';
