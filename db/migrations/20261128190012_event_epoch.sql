-- migrate:up

-- After a restore, or a failover that lost transactions, ids would be given out anew, and a client that comes back with an old id
-- could not tell. So the database knows where its ids come from: api.ensure_epoch compares this row with the server, and if they
-- differ moves the ids far ahead.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

create table inventory.event_epochs (
  first_id bigint primary key,
  lost_after_id bigint not null check (lost_after_id < first_id),
  system_identifier bigint not null,
  timeline text not null,
  database_oid oid not null,
  began_at timestamptz not null default now()
);
comment on table inventory.event_epochs is
'The servers, timelines and databases that gave out the ids of events. The row with the greatest first_id is the present one.';
comment on column inventory.event_epochs.first_id is 'The ids of the epoch are not smaller.';
comment on column inventory.event_epochs.lost_after_id is
'The newest id of the log when the epoch began. An id between this one and first_id means an event that was lost.';
comment on constraint event_epochs_check on inventory.event_epochs is 'lost_after_id: must be less than first_id';

insert into inventory.event_epochs (first_id, lost_after_id, system_identifier, timeline, database_oid)
select
  0, -1,
  (select c.system_identifier from pg_control_system() c),
  left(pg_walfile_name(pg_current_wal_lsn()), 8),
  (select d.oid from pg_database d where d.datname = current_database());

-- A client of one drop that comes back with an id older than the log has missed nothing if no event of the drop was pruned since.
create table inventory.pruned_events (
  drop_id uuid primary key,
  last_id bigint not null
);
comment on table inventory.pruned_events is 'The newest event of each drop that is in the log no more.';

insert into inventory.pruned_events (drop_id, last_id)
select d.id, o.id - 1
from inventory.drops d
cross join (select min(e.id) as id from inventory.events e) o
where o.id is not null;

-- migrate:down

-- squawk-ignore ban-drop-function
drop function if exists api.ensure_epoch(boolean);
-- squawk-ignore ban-drop-table
drop table inventory.event_epochs;
-- squawk-ignore ban-drop-table
drop table inventory.pruned_events;
-- What was dropped here is applied again if this migration is.
delete from inventory.function_files where path = 'api/ensure_epoch.sql';
