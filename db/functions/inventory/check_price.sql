-- inventory.check_price: refuse a price that the column would round or cannot hold.
--
-- This one rule cannot be a constraint, because numeric(12, 2) rounds a value before any constraint sees it.
--
-- Locks: none. Errors: VALIDATION_ERROR.

create or replace function inventory.check_price(p_price numeric)
returns numeric
language plpgsql stable
as $$
begin
  if p_price <> round(p_price, 2) or abs(p_price) >= 10000000000 then
    perform inventory.refuse('VALIDATION_ERROR', 'price: must be less than 10000000000 with at most two decimals');
  end if;
  return p_price;
end
$$;

comment on function inventory.check_price(numeric) is
'Return the price; raise VALIDATION_ERROR if it has more than two decimals or more than ten digits before them.';
