-- inventory.publish_change: deferred trigger on changes: at the commit, announce what the transaction did.
--
-- Purpose: it fires for each drop. The first time inventory.publish_changes takes the notes of all drops; after that this function
-- does very little, because a transaction may have changed a hundred drops. It looks for the note of its own drop only, because a
-- look for any note would pass over all those that were taken.
--
-- It is security definer, because at the commit the session's own role is back, which may do nothing here.
--
-- Locks and errors: see inventory.publish_changes.

create or replace function inventory.publish_change()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
begin
  if exists (select from inventory.changes c where c.transaction_id = new.transaction_id and c.drop_id = new.drop_id) then
    perform inventory.publish_changes(new.transaction_id);
  end if;
  return null;
end
$$;

comment on function inventory.publish_change() is 'Trigger: announce at the commit what the transaction did to its drops.';
