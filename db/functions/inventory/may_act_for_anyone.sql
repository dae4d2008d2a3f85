-- inventory.may_act_for_anyone: whether the caller of a public function is the service or the owner.
--
-- Purpose: the service may act for anyone, because it has verified who asks. So may the owner of the functions, in psql for
-- example. Any other role is a client's, and acts for one user only.
--
-- Who calls is the role that the session has set, or else the role that logged in. In a function with the rights of its owner
-- current_user is the owner, but the setting "role" stays what the session has set.
--
-- Locks: none. Errors: none.

create or replace function inventory.may_act_for_anyone()
returns boolean
language plpgsql stable
as $$
declare
  v_caller name := coalesce(nullif(current_setting('role'), 'none'), session_user);
begin
  return v_caller = current_user or pg_has_role(v_caller, 'lastpair_service', 'usage');
end
$$;

comment on function inventory.may_act_for_anyone() is
'Whether the caller of a public function is the service or the owner, who may act for any user.';
