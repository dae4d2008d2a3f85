-- inventory.drop_refusal: the code with which a drop refuses every request for new units, or null if it is on sale. The drop is
-- as inventory.prepare_drops returns it: a row of nulls if it does not exist.
--
-- Locks: none. Errors: none.

create or replace function inventory.drop_refusal(p_drop inventory.drops)
returns text
language sql stable
as $$
  select case when p_drop.id is null then 'DROP_NOT_FOUND' when not inventory.is_on_sale(p_drop) then 'DROP_NOT_ACTIVE' end
$$;

comment on function inventory.drop_refusal(inventory.drops) is
'The code with which a drop refuses every request for new units, or null if it is on sale.';
