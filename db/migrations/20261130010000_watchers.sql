-- migrate:up

-- Each process of the service knows its own streams only, and an answer must not depend on the process that gives it. So each
-- tells the others here.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- The table is unlogged, because every process writes its row anew every few seconds: a crash loses nothing, and no write waits for
-- the disk.
create unlogged table inventory.watchers (
  process_id uuid primary key,
  streams integer not null check (streams > 0),
  at timestamptz not null default now()
);
comment on table inventory.watchers is 'How many streams each process of the service has open; a process without one has no row.';
comment on column inventory.watchers.process_id is 'A process draws it when it starts.';
comment on column inventory.watchers.at is 'When the process last said so. An old row is that of a process which is dead.';
comment on constraint watchers_streams_check on inventory.watchers is 'streams: must be 1 or more';

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- squawk-ignore ban-drop-function
drop function if exists api.count_watchers(uuid, integer);
-- squawk-ignore ban-drop-table
drop table inventory.watchers;
-- What was dropped here is applied again if this migration is.
delete from inventory.function_files where path = 'api/count_watchers.sql';
