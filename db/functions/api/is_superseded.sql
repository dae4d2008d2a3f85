-- api.is_superseded: tell whether a set of function files was deployed to this database and then replaced by a later deployment.
--
-- Purpose: a process that may not migrate finds other function files than its own. If its own set was replaced, the process is of
-- an older version and may serve. A set that was never deployed, or that a deployment went back from, is not superseded.
--
-- Locks: none. Errors: none.

create or replace function api.is_superseded(p_checksum text)
returns boolean
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(
    (select s.number < (select max(l.number) from inventory.function_sets l)
     from inventory.function_sets s where s.checksum = p_checksum),
    false)
$$;

comment on function api.is_superseded(text) is
'Whether the set of function files with this SHA-256 was deployed here and then replaced by a later deployment.';
