-- inventory.node_of: the number of the node that made an id: byte 9.
--
-- It says nothing about an id that is older than the nodes of a router, or that was not made by inventory.uuid_v7.
--
-- Locks: none. Errors: none.

create or replace function inventory.node_of(p_id uuid)
returns integer
language sql immutable parallel safe
return get_byte(uuid_send(p_id), 9);

comment on function inventory.node_of(uuid) is 'The number of the node that made this id.';
