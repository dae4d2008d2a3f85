-- migrate:up

-- One trigger takes the lock that orders events and announces what a transaction did. There were two, and both fired for each drop.
--
-- Its function belongs to the migration and is no function file, as that of the trigger which took the lock: whatever version of the
-- function files is in force, the lock is taken. The version before this one may put its publish_change back, which no trigger calls.
--
-- The change is in order, too: to drop a trigger waits for all transactions that have noted a change, because they hold a lock on
-- inventory.changes until they end, and those that come later wait for this migration.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- It fires for each drop. The first time inventory.publish_changes takes the notes of all drops; after that this function does very
-- little, because a transaction may have changed a hundred drops. It looks for the note of its own drop only, because a look for any
-- note would pass over all those that were taken.
--
-- It is security definer, because at the commit the session's own role is back, which may do nothing here. The mode of the lock is the
-- weakest that two transactions cannot both have. Readers, and pg_dump, are not in its way.
create function inventory.announce_changes() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
begin
  if exists (select from inventory.changes c where c.transaction_id = new.transaction_id and c.drop_id = new.drop_id) then
    lock table inventory.event_order in share update exclusive mode;
    perform inventory.publish_changes(new.transaction_id);
  end if;
  return null;
end
$$;
comment on function inventory.announce_changes() is
'Trigger: at the commit, take the lock that orders events, and announce what the transaction did to its drops.';
revoke all on function inventory.announce_changes() from public;

drop trigger changes_order on inventory.changes;
drop trigger changes_publish on inventory.changes;
-- squawk-ignore ban-drop-function
drop function inventory.order_events(), inventory.publish_change();
delete from inventory.function_files where path = 'inventory/publish_change.sql';
create constraint trigger changes_announce after insert on inventory.changes
  deferrable initially deferred
  for each row execute function inventory.announce_changes();

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

create function inventory.order_events() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  lock table inventory.event_order in share update exclusive mode;
  return null;
end
$$;
comment on function inventory.order_events() is
'Trigger: at the commit, take the lock that orders events, and hold it until the transaction has ended.';
revoke all on function inventory.order_events() from public;
create function inventory.publish_change() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from inventory.changes c where c.transaction_id = new.transaction_id and c.drop_id = new.drop_id) then
    perform inventory.publish_changes(new.transaction_id);
  end if;
  return null;
end
$$;
comment on function inventory.publish_change() is 'Trigger: announce at the commit what the transaction did to its drops.';
revoke all on function inventory.publish_change() from public;

drop trigger changes_announce on inventory.changes;
-- squawk-ignore ban-drop-function
drop function inventory.announce_changes();
create constraint trigger changes_order after insert on inventory.changes
  deferrable initially deferred
  for each row execute function inventory.order_events();
create constraint trigger changes_publish after insert on inventory.changes
  deferrable initially deferred
  for each row execute function inventory.publish_change();
