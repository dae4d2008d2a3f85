-- inventory.note_drop: trigger on drops: note that a drop was created, that a seller's values of it changed or that it was deleted,
-- and whether it could be seen before. The commit announces the note. inventory.note_stock notes what an update did to the stock.
--
-- By hand a drop may come after its holds, or again after it was deleted, in one transaction. Then there is a note already. The search
-- for what is due begins at the beginning of time, because the holds have found no drop that they could tell when they end.
--
-- Locks: only this transaction's own row of inventory.changes, which no other transaction touches. Errors: foreign_key_violation
-- (23503), if a drop is given another id, because its holds, sales and events name this one.

create or replace function inventory.note_drop()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_has_note boolean;
begin
  if tg_op = 'INSERT' then
    insert into inventory.changes as c (drop_id, is_created, was_public, added_total, added_available)
    values (new.id, true, false, new.total_stock, new.available_stock)
    on conflict (transaction_id, drop_id) do update
    set
      is_created = c.is_created or c.was_public is null,
      is_updated = true,
      was_public = coalesce(c.was_public, excluded.was_public),
      added_total = c.added_total + excluded.added_total,
      added_available = c.added_available + excluded.added_available
    returning c.is_updated into v_has_note;
    if v_has_note then
      update inventory.drops d set nothing_due_before = '-infinity' where d.id = new.id;
    end if;
  elsif tg_op = 'UPDATE' then
    if new.id <> old.id then
      raise foreign_key_violation using message = format('drop %s keeps its id', old.id);
    end if;
    if (
      old.name, old.price, old.currency, old.created_by, old.total_stock, old.starts_at, old.ends_at, old.status, old.paused_at,
      old.limit_per_user, old.hold_seconds, old.rehold_after_seconds, old.extension_seconds, old.image_url
    ) is not distinct from (
      new.name, new.price, new.currency, new.created_by, new.total_stock, new.starts_at, new.ends_at, new.status, new.paused_at,
      new.limit_per_user, new.hold_seconds, new.rehold_after_seconds, new.extension_seconds, new.image_url
    ) then
      return null;
    end if;
    insert into inventory.changes as c (drop_id, is_updated, is_cancelled, was_public)
    values (new.id, true, new.status = 'cancelled' and old.status <> 'cancelled', inventory.is_public(old))
    on conflict (transaction_id, drop_id) do update
    set
      is_updated = true, is_cancelled = coalesce(c.is_cancelled, false) or excluded.is_cancelled,
      was_public = coalesce(c.was_public, excluded.was_public);
  else
    insert into inventory.changes as c (drop_id, was_public, added_total, added_available)
    values (old.id, inventory.is_public(old), - old.total_stock, - old.available_stock)
    on conflict (transaction_id, drop_id) do update
    set
      was_public = coalesce(c.was_public, excluded.was_public),
      added_total = c.added_total + excluded.added_total,
      added_available = c.added_available + excluded.added_available;
  end if;
  return null;
end
$$;

comment on function inventory.note_drop() is 'Trigger: note how a drop changed; the commit announces it.';
