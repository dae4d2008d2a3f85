-- inventory.is_public: whether everybody may see a drop: neither a draft nor one that was cancelled as a draft.
--
-- Locks: none. Errors: none. PostgreSQL puts the expression into the query that calls this function.

create or replace function inventory.is_public(p_drop inventory.drops)
returns boolean
language sql immutable parallel safe
as $$
  select p_drop.status <> 'draft' and (p_drop.status <> 'cancelled' or p_drop.was_published)
$$;

comment on function inventory.is_public(inventory.drops) is
'May everybody see this drop? Not a draft, nor one that was cancelled as a draft.';
