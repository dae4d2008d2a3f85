-- inventory.can_sell: whether a unit can be taken from a drop, as far as its row and its due holds tell.
--
-- Purpose: the calling function learns without any lock whether it is worth locking the drop.
--
-- Locks: none. Errors: none.

create or replace function inventory.can_sell(p_drop inventory.drops)
returns boolean
language sql stable
as $$
  select inventory.is_on_sale(p_drop) and (p_drop.available_stock > 0 or inventory.has_due(p_drop))
$$;

comment on function inventory.can_sell(inventory.drops) is
'Is this drop on sale now, and has it stock, or holds that can be taken back? A null drop (none was found) does not sell.';
