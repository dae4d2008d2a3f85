-- api.deployed: what this router was made from. `lastpair migrate` writes it down, and compares it with what a node says.

create or replace function api.deployed()
returns table (path text, checksum text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select d.path, d.checksum from router.deployed d
$$;

comment on function api.deployed() is
'List what this router was made from: migrations/<version> for each migration, functions/<path> with its SHA-256 for each function file.';
