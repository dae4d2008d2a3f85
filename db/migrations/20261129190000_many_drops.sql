-- migrate:up

-- What a transaction does to many drops is noted and announced once for all of them, not drop by drop: a batch of 256 requests may
-- be for a hundred drops.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

create type inventory.new_event as (drop_id uuid, type text, data json);
comment on type inventory.new_event is 'An event that inventory.publish is to append to the log.';

create type inventory.stock as ("dropId" uuid, "availableStock" integer);
comment on type inventory.stock is 'The data of a STOCK_UPDATED event of a drop without variants.';

create function inventory.note_stock() returns trigger language plpgsql as 'begin return null; end';

drop trigger drops_update_note on inventory.drops;
create trigger drops_update_note
  after update on inventory.drops
  for each row
  when (
    (
      old.id, old.name, old.price, old.currency, old.created_by, old.total_stock, old.starts_at, old.ends_at, old.status,
      old.paused_at, old.limit_per_user, old.hold_seconds, old.rehold_after_seconds, old.extension_seconds
    ) is distinct from (
      new.id, new.name, new.price, new.currency, new.created_by, new.total_stock, new.starts_at, new.ends_at, new.status,
      new.paused_at, new.limit_per_user, new.hold_seconds, new.rehold_after_seconds, new.extension_seconds
    )
  )
  execute function inventory.note_drop();
create trigger drops_stock_note after update on inventory.drops
  referencing old table as old_rows new table as new_rows
  for each statement execute function inventory.note_stock();

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

drop trigger drops_stock_note on inventory.drops;
drop trigger drops_update_note on inventory.drops;
create trigger drops_update_note
  after update on inventory.drops
  for each row
  when (old.* is distinct from new.*)
  execute function inventory.note_drop();
-- The functions that take these types go with them.
-- squawk-ignore ban-drop-function
drop function inventory.note_stock();
-- squawk-ignore ban-drop-type
drop type inventory.new_event cascade;
-- squawk-ignore ban-drop-type
drop type inventory.stock cascade;
-- The function files that use what is gone are applied again when this migration is, or by the version before.
delete from inventory.function_files;
