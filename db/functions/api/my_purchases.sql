-- api.my_purchases: list all purchases of a user, in any status, the newest first.
--
-- Locks: none. Errors: FORBIDDEN (a buyer or seller names another user), AUTH_REQUIRED.

create or replace function api.my_purchases(p_user_id uuid)
returns setof api.purchase_row
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform inventory.require_self(p_user_id);
  perform inventory.require_user(p_user_id);
  return query
  select (inventory.purchase_row(p)).*
  from inventory.purchases p
  where p.user_id = p_user_id
  order by p.created_at desc, p.id desc;
end
$$;

comment on function api.my_purchases(uuid) is 'List a user''s purchases, the newest first.';
