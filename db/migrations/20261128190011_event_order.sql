-- migrate:up

-- The lock that orders events takes a privilege. It was an advisory lock, which any role that may connect can take, and so could
-- stop every commit.
--
-- The lock is the table inventory.event_order, which has no rows: only its owner may lock it. It is taken by a trigger of its
-- own, which fires before changes_publish, because triggers of one event fire in the order of their names. The function of this
-- trigger belongs to the migration and is no function file, because of deployments: old processes may put their function files
-- back, whose publish_change takes the advisory lock. If the two bodies took two different locks, two transactions could commit
-- side by side, and their ids out of order. Now each body, old or new, finds the table locked. An old one takes the advisory lock
-- besides, which nobody else wants then.
--
-- The change itself is in order, too: "create trigger" waits for all transactions that have noted a change, because they hold a
-- lock on inventory.changes until they end, and those that come later wait for this migration and find the trigger.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

create table inventory.event_order (nothing boolean) with (autovacuum_enabled = false);
comment on table inventory.event_order is
'The lock that orders events. It has no rows; transactions lock it before they draw an id.';

-- This mode is the weakest that two transactions cannot both have. Readers, and pg_dump, are not in its way.
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

create constraint trigger changes_order after insert on inventory.changes
  deferrable initially deferred
  for each row execute function inventory.order_events();

-- migrate:down

-- The functions of the old version must be in force (docs/operations.md, "Go back"), because they take a lock of their own.
drop trigger changes_order on inventory.changes;
-- squawk-ignore ban-drop-function
drop function inventory.order_events();
-- squawk-ignore ban-drop-table
drop table inventory.event_order;
