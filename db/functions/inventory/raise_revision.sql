-- inventory.raise_revision: trigger on drops: count a change that a seller may have made, and note whether a drop that is cancelled
-- was published.
--
-- Purpose: a seller says which revision a change is meant for (api.update_drop), so two sellers do not undo one another's work.
-- Sales, returns and the clock do not raise the revision, because they change nothing that a seller sets: a drop that the sweep
-- starts or ends has that status by the clock already. The trigger fires only for a statement that names one of these columns, so
-- a reserve does not pay for it. A change of variants is counted by api.update_drop.
--
-- Locks: none; the row is being written. Errors: none.

create or replace function inventory.raise_revision()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if (
    old.name, old.price, old.total_stock, old.starts_at, old.ends_at, inventory.status_now(old), old.paused_at, old.limit_per_user,
    old.hold_seconds, old.rehold_after_seconds, old.extension_seconds, old.image_url
  ) is distinct from (
    new.name, new.price, new.total_stock, new.starts_at, new.ends_at, inventory.status_now(new), new.paused_at, new.limit_per_user,
    new.hold_seconds, new.rehold_after_seconds, new.extension_seconds, new.image_url
  ) then
    new.revision := old.revision + 1;
  end if;
  if new.status = 'cancelled' and old.status <> 'cancelled' then
    new.was_published := old.status <> 'draft';
  end if;
  return new;
end
$$;

comment on function inventory.raise_revision() is
'Trigger: raise the revision of a drop that was changed by more than a sale, and note whether one that is
cancelled was published.';
