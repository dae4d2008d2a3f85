-- inventory.currency_decimals: how many decimals an amount in a currency has; null if there is no such currency.
--
-- Locks: none. Errors: none.

create or replace function inventory.currency_decimals(p_currency text)
returns integer
language sql immutable parallel safe
as $$
  select c.decimals from api.currencies() c where c.currency = p_currency
$$;

comment on function inventory.currency_decimals(text) is 'The decimals of amounts in a currency; null: there is no such currency.';
