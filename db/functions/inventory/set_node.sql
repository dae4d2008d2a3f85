-- inventory.set_node: give this node its number, which is in every id that it makes from then on.
--
-- Purpose: an operator does this once, before the database joins a router. The number is the body of inventory.node, which is
-- replaced. Other sessions notice, because PostgreSQL plans anew what contains a function that was replaced.
--
-- Locks: the tables of users and drops, until the end of the transaction. api.create_drop reads a user before it makes the id of the
-- drop, so an id with the old number belongs to a drop that is seen here.
-- Errors: invalid_parameter_value (22023): the number is not from 0 to 255; object_not_in_prerequisite_state (55000): the database
-- has drops, and it is not the number that it has.

create or replace function inventory.set_node(p_number integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if (p_number between 0 and 255) is not true then
    raise invalid_parameter_value using message = 'the number of a node is from 0 to 255';
  end if;
  if p_number = inventory.node() then
    return;
  end if;
  lock table inventory.users, inventory.drops in access exclusive mode;
  if exists (select from inventory.drops) then
    raise object_not_in_prerequisite_state using
      message = format('this database is node %s and has drops, so its number stays', inventory.node()),
      detail = 'The ids of its drops, holds and purchases carry this number, and a router finds them by it.',
      hint = 'A database that has drops joins a router as its first node. Another node has to be a new database.';
  end if;
  execute format(
    'create or replace function inventory.node() returns integer language sql stable parallel safe return %s', p_number);
end
$$;

comment on function inventory.set_node(integer) is
'Give this node its number, from 0 to 255, before it has drops. Every id that it makes from then on carries the number.';
