-- inventory.told_stock: what an event tells about the available units of its drop; null if nothing.
--
-- Locks: none. Errors: none. PostgreSQL puts the expression into the query that calls this function.

create or replace function inventory.told_stock(p_type text, p_data json)
returns integer
language sql immutable parallel safe
as $$
  select case
    when p_type = 'STOCK_UPDATED' then (p_data ->> 'availableStock')::integer
    when p_type in ('DROP_CREATED', 'DROP_UPDATED') then (p_data #>> '{drop,available_stock}')::integer
  end
$$;

comment on function inventory.told_stock(text, json) is 'What an event tells about the available units of its drop, or null.';
