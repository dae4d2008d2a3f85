-- api.node: the number of this node. It is 0 for a database that is not behind a router.
--
-- Purpose: a router compares it with the number under which the node joins.
--
-- Locks: none. Errors: none.

create or replace function api.node()
returns integer
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select inventory.node()
$$;

comment on function api.node() is 'The number of this node, which every id that it makes carries as byte 9.';
