-- migrate:up

-- Three roles instead of one: lastpair_buyer acts for one user, lastpair_seller makes and runs drops, and the service works as
-- lastpair_service. db/functions/privileges.sql says which functions each may execute. lastpair_api is a member of all three,
-- because older processes work as lastpair_api.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- Roles belong to the whole server. Another database of the server may have made them already, so the down migration keeps them.
-- A role that may not make roles needs db/recipes/role.sql to have been run before.
do $$
declare
  v_role text;
begin
  foreach v_role in array array['lastpair_buyer', 'lastpair_seller', 'lastpair_service'] loop
    begin
      if not exists (select from pg_catalog.pg_roles where rolname = v_role) then
        execute pg_catalog.format('create role %I nologin', v_role);
      end if;
    exception when duplicate_object or unique_violation then
      null; -- another migration has made the role at the same moment
    end;
    if not pg_catalog.pg_has_role('lastpair_api', v_role, 'usage') then
      execute pg_catalog.format('grant %I to lastpair_api', v_role);
    end if;
  end loop;
exception when insufficient_privilege then
  raise insufficient_privilege using message = pg_catalog.format(
    '%s may not make the role %s or grant it to lastpair_api; run db/recipes/role.sql as a superuser, then migrate again',
    current_user, v_role);
end
$$;

grant usage on schema api to lastpair_buyer, lastpair_seller, lastpair_service;

-- migrate:down

revoke usage on schema api from lastpair_buyer, lastpair_seller, lastpair_service;
revoke execute on all functions in schema api from lastpair_buyer, lastpair_seller, lastpair_service;
grant execute on all functions in schema api to lastpair_api;
-- The next deployment sets the privileges again if it applies this migration again.
delete from inventory.function_files where path = 'privileges.sql';
