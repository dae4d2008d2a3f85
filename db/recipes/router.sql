-- Make a database a router: it passes calls on to nodes. Run this as a superuser on a server with PL/Proxy (Debian:
-- postgresql-15-plproxy), after role.sql:
--
--   psql -X -v ON_ERROR_STOP=1 -f db/recipes/router.sql postgresql://postgres@host/postgres
--   MIGRATION_DATABASE_URL=postgresql://lastpair:…@host/lastpair lastpair migrate
--   MIGRATION_DATABASE_URL=… DATABASE_URL=… lastpair node add --number 0 --url postgresql://lastpair_app:…@node/lastpair
--
-- Give a router a server of its own. A role that may make functions of PL/Proxy can open connections as the system user that
-- runs the server, and this user may be a superuser there. Here the role is lastpair, because it makes the functions of the router.

\set QUIET on
\connect lastpair
set client_min_messages = 'warning';

create extension if not exists plproxy;

-- Only superusers may use a language that is not trusted.
update pg_catalog.pg_language set lanpltrusted = true where lanname = 'plproxy' and not lanpltrusted;
revoke usage on language plproxy from public;
grant usage on language plproxy to lastpair;
grant usage on foreign data wrapper plproxy to lastpair;
