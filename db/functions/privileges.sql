-- Privileges: lastpair_api may execute the functions of schema api and nothing else; PUBLIC may do nothing.
--
-- The deployment runs this file again whenever it has applied a function file, in the same transaction, because PUBLIC may
-- execute a new function until then.

revoke all on all functions in schema inventory, api from public;
grant execute on all functions in schema api to lastpair_api;
