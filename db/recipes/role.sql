-- The service's roles and database, on a server that is new; run once, as a superuser:
--
--   LASTPAIR_PASSWORD=… psql -X -v ON_ERROR_STOP=1 -f db/recipes/role.sql postgresql://postgres@host/postgres
--
-- lastpair owns the database and lets the service in. It is an ordinary role, for the functions run with the rights of their owner.
-- lastpair_api is what the service works as. The first migration would make it, but for that lastpair had to be allowed to make
-- roles, and who may do so before PostgreSQL 16 can become nearly everybody.

\getenv password LASTPAIR_PASSWORD
select 'create role lastpair_api nologin' where not exists (select from pg_roles where rolname = 'lastpair_api') \gexec
create role lastpair login password :'password' in role lastpair_api;
create database lastpair owner lastpair;

-- Whoever may connect may also NOTIFY: nobody else may.
revoke connect, temporary on database lastpair from public;
