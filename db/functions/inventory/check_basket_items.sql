-- inventory.check_basket_items: refuse a list of items that no basket can have.
--
-- Purpose: the first step of api.reserve_basket. What is wrong with one item only is left to inventory.reserve_on_drop.
--
-- Locks: none. Errors: VALIDATION_ERROR.

create or replace function inventory.check_basket_items(p_items api.basket_item[])
returns void
language plpgsql stable
as $$
begin
  if (cardinality(p_items) between 1 and 20) is not true then
    perform inventory.refuse('VALIDATION_ERROR', 'items: must be 1 to 20 items');
  end if;
  if exists (select from unnest(p_items) i group by i.drop_id, i.variant_id having count(*) > 1) then
    perform inventory.refuse(
      'VALIDATION_ERROR', 'items: two items are the same drop and variant; give one with their qty together');
  end if;
end
$$;

comment on function inventory.check_basket_items(api.basket_item[]) is
'Raise VALIDATION_ERROR unless these are 1 to 20 items, each of another drop or variant.';
