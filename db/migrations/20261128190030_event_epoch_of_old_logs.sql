-- migrate:up

-- A database whose log is older than the epochs may be a backup that was restored. Later events were lost then, and their ids
-- would be given out anew. So a database that has given out ids begins an epoch here, as api.ensure_epoch does, which is not there
-- yet.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

lock table inventory.event_order in share update exclusive mode; -- no id may be drawn meanwhile

insert into inventory.event_epochs (first_id, lost_after_id, system_identifier, timeline, database_oid)
select
  setval('inventory.events_id_seq', greatest(s.last_value, (extract(epoch from clock_timestamp()) * 1000000)::bigint)) + 1,
  coalesce((select max(e.id) from inventory.events e), 0),
  p.system_identifier, p.timeline, p.database_oid
from inventory.events_id_seq s
cross join (select * from inventory.event_epochs order by first_id desc limit 1) p
where s.is_called and p.first_id = 0;

-- migrate:down

-- Ids never go back, so there is nothing to undo.
