-- inventory.note_variant: trigger on variants: note that the stock of a variant changed. The commit announces it with the drop's.
--
-- Locks: only this transaction's own row of inventory.changes, which no other transaction touches. Errors: none.

create or replace function inventory.note_variant()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into inventory.changes as c (drop_id, is_stock_updated, variant_ids)
  values (new.drop_id, true, array[new.id])
  on conflict (transaction_id, drop_id) do update
  set is_stock_updated = true, variant_ids = array_remove(c.variant_ids, new.id) || new.id;
  return null;
end
$$;

comment on function inventory.note_variant() is 'Trigger: note that the stock of a variant changed; the commit announces it.';
