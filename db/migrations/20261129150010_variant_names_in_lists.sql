-- migrate:up

-- The lists show the name of a variant, because a seller who packs the orders does not know its id. They are dropped first, because
-- PostgreSQL does not change the columns that a function returns.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- squawk-ignore ban-drop-function
drop function if exists api.list_purchases(uuid, text, uuid, uuid, integer, uuid);
-- squawk-ignore ban-drop-function
drop function if exists api.list_reservations(uuid, text, uuid, uuid, integer, uuid);

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- squawk-ignore ban-drop-function
drop function if exists api.list_purchases(uuid, text, uuid, uuid, integer, uuid);
-- squawk-ignore ban-drop-function
drop function if exists api.list_reservations(uuid, text, uuid, uuid, integer, uuid);
-- These function files are applied again when this migration is, or by the version before.
delete from inventory.function_files where path in ('api/list_purchases.sql', 'api/list_reservations.sql');
