-- migrate:up

-- A draft that is cancelled stays the seller's. Of those that are cancelled already nobody knows, so they stay to be seen.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

alter table inventory.drops add column was_published boolean not null default true;
alter table inventory.drops alter column was_published set default false;
comment on column inventory.drops.was_published is 'Of a drop that is cancelled: everybody had seen it, because it was no draft.';

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- squawk-ignore ban-drop-function
drop function if exists inventory.is_public(inventory.drops);
-- squawk-ignore ban-drop-column
alter table inventory.drops drop column was_published;
-- The function files that use what is gone are applied again when this migration is, or by the version before.
delete from inventory.function_files;
