-- Who may call what, set anew whenever a function file was applied: lastpair_api has EXECUTE on the functions of api and nothing
-- else; PUBLIC has nothing. New functions are executable by PUBLIC until this has run, in the same transaction.

revoke all on all functions in schema inventory, api from public;
grant execute on all functions in schema api to lastpair_api;
