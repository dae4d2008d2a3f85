-- api.errors: every error of the database, for callers: see inventory.errors, which defines them.
--
-- Locks: none. Errors: none.

create or replace function api.errors()
returns table (code text, status integer, message text)
language sql immutable parallel safe security definer
set search_path = pg_catalog, pg_temp
as $$
  select e.code, e.status, e.message from inventory.errors() e
$$;

comment on function api.errors() is
'List every error of the database: code, HTTP status, sentence for people. A function raises it as SQLSTATE PT<status> with the
code as MESSAGE and the sentence as DETAIL.';
