-- inventory.note_variant: trigger on variants: note that a variant is new, changed or gone, or that its stock changed. The commit
-- announces it with the drop.
--
-- Locks: only this transaction's own row of inventory.changes, which no other transaction touches. Errors: none.

create or replace function inventory.note_variant()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_stock_updated boolean := tg_op = 'UPDATE' and old.available_stock <> new.available_stock;
  v_updated boolean := true;
begin
  if tg_op = 'UPDATE' then
    v_updated := (old.name, old.price, old.total_stock, old.position)
      is distinct from (new.name, new.price, new.total_stock, new.position);
  end if;
  insert into inventory.changes as c (drop_id, is_updated, is_stock_updated, variant_ids)
  values (
    coalesce(new.drop_id, old.drop_id), v_updated, v_stock_updated,
    case when v_stock_updated then array[new.id] else '{}' end
  )
  on conflict (transaction_id, drop_id) do update
  set
    is_updated = c.is_updated or excluded.is_updated,
    is_stock_updated = c.is_stock_updated or excluded.is_stock_updated,
    variant_ids = array_remove(c.variant_ids, excluded.variant_ids[1]) || excluded.variant_ids;
  return null;
end
$$;

comment on function inventory.note_variant() is 'Trigger: note how a variant changed; the commit announces it.';
