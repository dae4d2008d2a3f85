-- Make the roles and the database of Lastpair. Run this as a superuser, on a new server and before each release that adds roles:
--
--   LASTPAIR_PASSWORD=… LASTPAIR_APP_PASSWORD=… \
--     psql -X -v ON_ERROR_STOP=1 -f db/recipes/role.sql postgresql://postgres@host/postgres
--
-- lastpair owns the database and migrates it (MIGRATION_DATABASE_URL). lastpair_app owns nothing, and the service logs in as it
-- (DATABASE_URL). Both are ordinary roles: the functions run with the rights of their owner, so no superuser is needed. The other
-- roles cannot log in; db/functions/privileges.sql says which functions each may execute.
--
-- A second run makes what is missing, sets the passwords that it is given, and changes nothing else.

-- The server, pgaudit and pg_stat_statements may record statements, also those that fail. Two statements here contain a password.
set log_statement = 'none';
set log_min_error_statement = 'panic';
set log_min_duration_statement = -1;
set log_min_duration_sample = -1;
set log_transaction_sample_rate = 0;
set debug_print_parse = off;
set debug_print_rewritten = off;
set debug_print_plan = off;
set pg_stat_statements.track_utility = off;
set pgaudit.log = 'none';
set client_min_messages = 'warning'; -- a second run would repeat that a role is a member already

select format('create role %I %s', role.name, role.login)
from (values
  ('lastpair', 'login'), ('lastpair_app', 'login'), ('lastpair_api', 'nologin'),
  ('lastpair_buyer', 'nologin'), ('lastpair_seller', 'nologin'), ('lastpair_service', 'nologin')
) as role (name, login)
where not exists (select from pg_roles where rolname = role.name)
\gexec

grant lastpair_buyer, lastpair_seller, lastpair_service to lastpair_api;
grant lastpair_service to lastpair_app;
-- On a node behind a router the login of the router calls functions as each of these (api.call). They may do less than the service.
grant lastpair_buyer, lastpair_seller to lastpair_app;
-- The owner can see and end the sessions of the service.
grant lastpair_api, lastpair_app to lastpair;

\getenv owner_password LASTPAIR_PASSWORD
\if :{?owner_password}
  alter role lastpair password :'owner_password';
  \echo 'lastpair: its password is set'
\else
  \echo 'lastpair: its password stays as it is, because LASTPAIR_PASSWORD is not set'
\endif
\getenv app_password LASTPAIR_APP_PASSWORD
\if :{?app_password}
  alter role lastpair_app password :'app_password';
  \echo 'lastpair_app: its password is set'
\else
  \echo 'lastpair_app: its password stays as it is, because LASTPAIR_APP_PASSWORD is not set'
\endif

select 'create database lastpair owner lastpair'
where not exists (select from pg_database where datname = 'lastpair')
\gexec

-- Calls are small, and PostgreSQL would compile their statements: that takes 700 ms, and the call without it 2 ms.
alter database lastpair set jit = off;

-- A role that may connect may also NOTIFY, so only these two roles may connect.
revoke connect, temporary on database lastpair from public;
grant connect on database lastpair to lastpair_app;
