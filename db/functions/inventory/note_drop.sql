-- inventory.note_drop: trigger on drops: note that a drop was created, that it changed or that its stock changed. The commit
-- announces the note.
--
-- Locks: only this transaction's own row of inventory.changes, which no other transaction touches. Errors: none.

create or replace function inventory.note_drop()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_created boolean := tg_op = 'INSERT';
  v_stock_updated boolean := false;
  v_updated boolean := false;
begin
  if not v_created then
    v_stock_updated := old.available_stock <> new.available_stock;
    v_updated := (old.name, old.price, old.total_stock, old.starts_at, old.ends_at, old.status)
      is distinct from (new.name, new.price, new.total_stock, new.starts_at, new.ends_at, new.status);
  end if;
  insert into inventory.changes as c (drop_id, is_created, is_updated, is_stock_updated)
  values (new.id, v_created, v_updated, v_stock_updated)
  on conflict (transaction_id, drop_id) do update
  set is_updated = c.is_updated or excluded.is_updated, is_stock_updated = c.is_stock_updated or excluded.is_stock_updated;
  return null;
end
$$;

comment on function inventory.note_drop() is 'Trigger: note how a drop changed; the commit announces it.';
