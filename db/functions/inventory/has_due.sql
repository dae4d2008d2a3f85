-- inventory.has_due: whether an ACTIVE reservation or a pending purchase of this drop is due, so that it can be taken back.
--
-- Purpose: the calling function learns without any lock whether it is worth locking the drop.
--
-- Locks: none. Errors: none. Plans: see inventory.drops_with_due.

create or replace function inventory.has_due(p_drop inventory.drops)
returns boolean
language sql stable
as $$
  select p_drop.nothing_due_before <= now() and inventory.drops_with_due(array[p_drop]) <> '{}'
$$;

comment on function inventory.has_due(inventory.drops) is 'Is an ACTIVE reservation or a pending purchase of this drop due?';
