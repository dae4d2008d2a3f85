-- migrate:up

-- A process that may not migrate compares the function files with its own when it starts. If they differ, either its own are not
-- deployed yet, or a newer version has replaced them. This table tells one from the other.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

create table inventory.function_sets (
  number bigint generated always as identity primary key,
  checksum text not null unique
);
comment on table inventory.function_sets is
'The sets of function files that were deployed, in this order; the last row is the set in force. Going back to a set deletes the
rows behind it.';

-- migrate:down

-- squawk-ignore ban-drop-function
drop function if exists api.is_superseded(text);
-- squawk-ignore ban-drop-table
drop table inventory.function_sets;
-- What was dropped here is applied again if this migration is.
delete from inventory.function_files where path = 'api/is_superseded.sql';
