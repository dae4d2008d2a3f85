-- migrate:up

-- The event log announces committed changes in the order of the commits. Triggers note in inventory.changes how a transaction
-- changes a drop. At the commit a deferred trigger turns each note into events: rows of the log and notifications.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

create type api.event as (
  type text,
  id text,
  data json
);
comment on type api.event is 'An event as it travels: NOTIFY payload, WebSocket frame, row of api.events_after.';

-- There is no foreign key to drops, because it would lock the drop's row. A transaction draws ids while it holds the lock that
-- orders commits, see inventory.publish.
create table inventory.events (
  id bigint generated always as identity,
  drop_id uuid not null,
  type text not null,
  data json not null,
  created_at timestamptz not null default clock_timestamp(),
  primary key (id, drop_id)
);
comment on table inventory.events is 'What was committed, in that order; kept for EVENT_RETENTION_SECONDS so that whoever missed events can read them.';
comment on column inventory.events.created_at is 'The moment of publishing, not now(): it rises with id, so the log is cut off in one place.';

create index events_drop_idx on inventory.events (drop_id, id);
comment on index inventory.events_drop_idx is 'What happened to one drop, for clients that ask for no other.';

-- The table is unlogged, because a row never outlives its transaction: the trigger that publishes it deletes it before the
-- commit.
create unlogged table inventory.changes (
  transaction_id xid8 not null default pg_current_xact_id(),
  drop_id uuid not null,
  is_created boolean not null default false,
  is_updated boolean not null default false,
  is_stock_updated boolean not null default false,
  is_activity_updated boolean not null default false,
  expired_ids uuid[] not null default '{}',
  purchased_ids uuid[] not null default '{}',
  primary key (transaction_id, drop_id)
);
comment on table inventory.changes is 'What the transactions under way have done to a drop and will announce when they commit; empty to everybody else.';

-- The same deployment applies the real bodies next, from db/functions/inventory. Until then the triggers need functions to name.
create function inventory.note_drop() returns trigger language plpgsql as 'begin return null; end';
create function inventory.note_reservations() returns trigger language plpgsql as 'begin return null; end';
create function inventory.note_purchases() returns trigger language plpgsql as 'begin return null; end';
create function inventory.publish_change() returns trigger language plpgsql as 'begin return null; end';
delete from inventory.function_files
where path in (
  'inventory/note_drop.sql', 'inventory/note_reservations.sql', 'inventory/note_purchases.sql', 'inventory/publish_change.sql'
);

create trigger drops_insert_note after insert on inventory.drops
  for each row execute function inventory.note_drop();
create trigger drops_update_note after update on inventory.drops
  for each row when (old.* is distinct from new.*) execute function inventory.note_drop();
create trigger reservations_update_note after update on inventory.reservations
  referencing old table as old_rows new table as new_rows
  for each statement execute function inventory.note_reservations();
create trigger purchases_insert_note after insert on inventory.purchases
  referencing new table as new_rows
  for each statement execute function inventory.note_purchases();
create trigger purchases_update_note after update on inventory.purchases
  referencing old table as old_rows new table as new_rows
  for each statement execute function inventory.note_purchases();

create constraint trigger changes_publish after insert on inventory.changes
  deferrable initially deferred
  for each row execute function inventory.publish_change();

-- Purchases of one batch have the same created_at, so the id decides which is the latest. The index is not made concurrently,
-- because no database has many purchases yet.
-- squawk-ignore require-concurrent-index-deletion
drop index inventory.purchases_latest_idx;
-- squawk-ignore require-concurrent-index-creation
create index purchases_latest_idx on inventory.purchases (drop_id, created_at desc, id desc) where status = 'paid';
comment on index inventory.purchases_latest_idx is 'The latest purchasers of a drop.';

-- migrate:down

-- squawk-ignore require-concurrent-index-deletion
drop index inventory.purchases_latest_idx;
-- squawk-ignore require-concurrent-index-creation
create index purchases_latest_idx on inventory.purchases (drop_id, created_at desc) where status = 'paid';
comment on index inventory.purchases_latest_idx is 'The latest purchasers of a drop.';
drop trigger drops_insert_note on inventory.drops;
drop trigger drops_update_note on inventory.drops;
drop trigger reservations_update_note on inventory.reservations;
drop trigger purchases_insert_note on inventory.purchases;
drop trigger purchases_update_note on inventory.purchases;
-- squawk-ignore ban-drop-table
drop table inventory.changes;
-- squawk-ignore ban-drop-function
drop function if exists api.prune_events(integer, integer), inventory.publish(uuid, text, json[]);
-- squawk-ignore ban-drop-function
drop function inventory.note_drop(), inventory.note_reservations(), inventory.note_purchases(), inventory.publish_change();
-- squawk-ignore ban-drop-table
drop table inventory.events;
-- squawk-ignore ban-drop-type
drop type api.event cascade; -- this drops the functions that return it, too
-- Forget the files of the dropped functions, so that the deployment applies them again if it applies this migration again.
delete from inventory.function_files
where path in ('api/events_after.sql', 'api/prune_events.sql', 'api/snapshot.sql', 'inventory/publish.sql');
