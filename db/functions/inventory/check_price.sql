-- inventory.check_price: a price with exactly the decimals of its currency; refuse one that has more.
--
-- This rule is no constraint, because a constraint cannot add the decimals that are missing: 5 USD is stored, and shown, as 5.00.
--
-- Locks: none. Errors: VALIDATION_ERROR (currency, or the field that p_field names).

create or replace function inventory.check_price(p_price numeric, p_currency text, p_field text default 'price')
returns numeric
language plpgsql stable
as $$
declare
  v_decimals integer := inventory.currency_decimals(p_currency);
begin
  if v_decimals is null then
    perform inventory.refuse_constraint('drops_currency_check');
  end if;
  if p_price <> round(p_price, v_decimals) or abs(p_price) >= 10000000000 then
    perform inventory.refuse('VALIDATION_ERROR', format(
      '%s: must be less than 10000000000 with %s', p_field,
      case v_decimals when 0 then 'no decimals, as ' || p_currency || ' has none' when 2 then 'at most two decimals'
        else 'at most three decimals' end));
  end if;
  return round(p_price, v_decimals);
end
$$;

comment on function inventory.check_price(numeric, text, text) is
'Return the price with the decimals of its currency; raise VALIDATION_ERROR if it has more, or more than ten digits before them.';
