-- Make the service's roles and database on a new server. Run this once, as a superuser:
--
--   LASTPAIR_PASSWORD=… psql -X -v ON_ERROR_STOP=1 -f db/recipes/role.sql postgresql://postgres@host/postgres
--
-- The role lastpair owns the database, and the service logs in as lastpair. It is an ordinary role: the functions run with the
-- rights of their owner, so no superuser is needed. The service works as lastpair_api. The first migration can make that role,
-- too, but only if lastpair may make roles, and before PostgreSQL 16 a role that may make roles can become nearly any other role.

\getenv password LASTPAIR_PASSWORD
select 'create role lastpair_api nologin' where not exists (select from pg_roles where rolname = 'lastpair_api') \gexec
create role lastpair login password :'password' in role lastpair_api;
create database lastpair owner lastpair;

-- A role that may connect may also NOTIFY, so only the service's roles may connect.
revoke connect, temporary on database lastpair from public;
