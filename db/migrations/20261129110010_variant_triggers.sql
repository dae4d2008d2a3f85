-- migrate:up

-- A call that sells units of twelve variants updates twelve rows. What changed is noted once for all of them, not row by row.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

drop trigger variants_note on inventory.variants;
drop trigger variants_update_note on inventory.variants;
-- squawk-ignore ban-drop-function
drop function inventory.note_variant();
create function inventory.note_variants() returns trigger language plpgsql as 'begin return null; end';
create trigger variants_insert_note after insert on inventory.variants
  referencing new table as new_rows
  for each statement execute function inventory.note_variants();
create trigger variants_update_note after update on inventory.variants
  referencing old table as old_rows new table as new_rows
  for each statement execute function inventory.note_variants();
create trigger variants_delete_note after delete on inventory.variants
  referencing old table as old_rows
  for each statement execute function inventory.note_variants();

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

drop trigger variants_insert_note on inventory.variants;
drop trigger variants_update_note on inventory.variants;
drop trigger variants_delete_note on inventory.variants;
-- squawk-ignore ban-drop-function
drop function inventory.note_variants();
create function inventory.note_variant() returns trigger language plpgsql as 'begin return null; end';
create trigger variants_note after insert or delete on inventory.variants
  for each row execute function inventory.note_variant();
create trigger variants_update_note after update on inventory.variants
  for each row when (
    (old.name, old.price, old.total_stock, old.available_stock, old.position)
      is distinct from (new.name, new.price, new.total_stock, new.available_stock, new.position)
  ) execute function inventory.note_variant();
-- These function files are applied again when this migration is, or by the version before.
delete from inventory.function_files where path in ('inventory/note_variant.sql', 'inventory/note_variants.sql');
