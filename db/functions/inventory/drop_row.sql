-- inventory.drop_row: turn a row of drops into the row that the API shows.
--
-- Locks: none. Errors: none.

create or replace function inventory.drop_row(p_drop inventory.drops)
returns api.drop
language sql immutable parallel safe
as $$
  select row(
    p_drop.id, p_drop.name, p_drop.price, p_drop.total_stock, p_drop.available_stock, p_drop.starts_at, p_drop.ends_at,
    p_drop.status, p_drop.created_by, p_drop.created_at, p_drop.updated_at
  )::api.drop
$$;

comment on function inventory.drop_row(inventory.drops) is 'Return a drop as the API shows it.';
