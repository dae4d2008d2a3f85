-- inventory.basket_fault: a sentence that says why no basket can have these items, or null if one can.
--
-- Purpose: what is wrong with one item only is left to inventory.basket_decisions. Locks: none. Errors: none.

create or replace function inventory.basket_fault(p_items api.basket_item[])
returns text
language plpgsql stable
as $$
begin
  if (cardinality(p_items) between 1 and 20) is not true then
    return 'items: must be 1 to 20 items';
  end if;
  if exists (select from unnest(p_items) i group by i.drop_id, i.variant_id having count(*) > 1) then
    return 'items: two items are the same drop and variant; give one with their qty together';
  end if;
  return null;
end
$$;

comment on function inventory.basket_fault(api.basket_item[]) is
'Why no basket can have these items (it has 1 to 20, each of another drop or variant), or null.';
