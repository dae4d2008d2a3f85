-- migrate:up

-- After a restore, or a failover that lost transactions, ids would be given out anew, and a client that comes back with an old id
-- could not tell. So the database knows where its ids come from: api.ensure_epoch compares this row with the server, and if they
-- differ moves the ids far ahead.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

create table inventory.event_epoch (
  is_only boolean primary key default true check (is_only),
  system_identifier bigint not null,
  timeline text not null,
  database_oid oid not null,
  began_at timestamptz not null default now()
);
comment on table inventory.event_epoch is
'One row: the server, its timeline and the database that give out the ids of events now. A restore brings another one.';
comment on constraint event_epoch_is_only_check on inventory.event_epoch is 'is_only: must be true';

insert into inventory.event_epoch (system_identifier, timeline, database_oid)
select
  (select c.system_identifier from pg_control_system() c),
  left(pg_walfile_name(pg_current_wal_lsn()), 8),
  (select d.oid from pg_database d where d.datname = current_database());

-- migrate:down

-- squawk-ignore ban-drop-function
drop function if exists api.ensure_epoch(boolean);
-- squawk-ignore ban-drop-table
drop table inventory.event_epoch;
-- What was dropped here is applied again if this migration is.
delete from inventory.function_files where path = 'api/ensure_epoch.sql';
