-- inventory.may_see_drafts: whether who calls may see drafts: a seller, the service, or the owner of the functions.
--
-- Who calls is found as in inventory.require_self. The service acts for anyone, so it says itself for whom it asks.
--
-- Locks: none. Errors: none.

create or replace function inventory.may_see_drafts()
returns boolean
language plpgsql stable
as $$
declare
  v_caller name := coalesce(nullif(current_setting('role'), 'none'), session_user);
begin
  return v_caller = current_user
    or pg_has_role(v_caller, 'lastpair_seller', 'usage')
    or pg_has_role(v_caller, 'lastpair_service', 'usage');
end
$$;

comment on function inventory.may_see_drafts() is 'Whether who calls may see drafts: a seller, the service, the owner.';
