-- inventory.drop_row: turn a row of drops into the row that the API shows. See inventory.drop_rows.
--
-- Locks: none. Errors: none. Plans: as in inventory.drop_rows.

create or replace function inventory.drop_row(p_drop inventory.drops)
returns api.drop_row
language plpgsql stable
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  return (select r from inventory.drop_rows(array[p_drop]) r);
end
$$;

comment on function inventory.drop_row(inventory.drops) is 'Return a drop as the API shows it, as it is by the clock.';
