-- inventory.note_drop: trigger on drops: note that a drop was created, that it changed or that its stock changed, that it was
-- deleted, and whether it could be seen before. The commit announces the note, and refuses it if the stock does not balance.
--
-- Locks: only this transaction's own row of inventory.changes, which no other transaction touches. Errors: foreign_key_violation
-- (23503), if a drop is given another id, because its holds, sales and events name this one.

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
  if tg_op = 'DELETE' then
    insert into inventory.changes as c (drop_id, was_public, added_total, added_available)
    values (old.id, inventory.is_public(old), - old.total_stock, - old.available_stock)
    on conflict (transaction_id, drop_id) do update
    set
      was_public = coalesce(c.was_public, excluded.was_public),
      added_total = c.added_total + excluded.added_total,
      added_available = c.added_available + excluded.added_available;
    return null;
  end if;
  if not v_created then
    if new.id <> old.id then
      raise foreign_key_violation using message = format('drop %s keeps its id', old.id);
    end if;
    v_stock_updated := old.available_stock <> new.available_stock;
    v_updated := (
      old.name, old.price, old.currency, old.created_by, old.total_stock, old.starts_at, old.ends_at, old.status, old.paused_at,
      old.limit_per_user, old.hold_seconds, old.rehold_after_seconds, old.extension_seconds
    ) is distinct from (
      new.name, new.price, new.currency, new.created_by, new.total_stock, new.starts_at, new.ends_at, new.status, new.paused_at,
      new.limit_per_user, new.hold_seconds, new.rehold_after_seconds, new.extension_seconds
    );
  end if;
  insert into inventory.changes as c (drop_id, is_created, is_updated, is_stock_updated, was_public, added_total, added_available)
  values (
    new.id, v_created, v_updated, v_stock_updated, not v_created and inventory.is_public(old),
    new.total_stock - case when v_created then 0 else old.total_stock end,
    new.available_stock - case when v_created then 0 else old.available_stock end
  )
  on conflict (transaction_id, drop_id) do update
  set
    is_updated = c.is_updated or excluded.is_updated,
    is_stock_updated = c.is_stock_updated or excluded.is_stock_updated,
    was_public = coalesce(c.was_public, excluded.was_public),
    added_total = c.added_total + excluded.added_total,
    added_available = c.added_available + excluded.added_available;
  return null;
end
$$;

comment on function inventory.note_drop() is 'Trigger: note how a drop changed; the commit announces it.';
