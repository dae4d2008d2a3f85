-- api.deployed: list what has been deployed to this database: the migrations and the function files, with their checksums.
--
-- Purpose: a process that may not migrate compares this list with its own files when it starts.
--
-- Locks: none. Errors: none.

create or replace function api.deployed()
returns table (path text, checksum text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select 'migrations/' || m.version, null from public.schema_migrations m
  union all
  select 'functions/' || f.path, f.checksum from inventory.function_files f
$$;

comment on function api.deployed() is
'List what has been deployed: migrations/<version> for each migration, functions/<path> with its SHA-256 for each function file.';
