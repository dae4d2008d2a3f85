-- api.ensure_epoch: begin a new epoch of event ids if this is not the database that gave out the ids so far, or if the caller
-- says that ids are lost; return whether one began.
--
-- In a new epoch ids go on at the microseconds since 1970, far beyond any id that a lost database can have given out (it would
-- have needed a million events a second). So an id means one event for ever: an id that was lost is in no log, and a client that
-- comes back with it gets RESYNC_REQUIRED from api.events_after. Ids that are in the log keep their meaning. Ids stay below 2^53
-- until the year 2255.
--
-- The identity is the server's, its timeline's and the database's: a dump that is restored has another server or database, a
-- promoted standby or a point-in-time recovery another timeline. A crash changes none of them. What the identity cannot show (a
-- volume that was set back, a sequence that was set back by hand) a caller notices that has published later events: p_is_lost.
--
-- Locks: the lock that orders events, if a new epoch begins, because no id may be drawn meanwhile. Errors: none.

create or replace function api.ensure_epoch(p_is_lost boolean default false)
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_here inventory.event_epochs;
  v_last_id bigint;
begin
  if pg_is_in_recovery() then
    return false; -- a standby gives out no ids
  end if;
  v_here.system_identifier := (select c.system_identifier from pg_control_system() c);
  v_here.timeline := left(pg_walfile_name(pg_current_wal_lsn()), 8);
  v_here.database_oid := (select d.oid from pg_database d where d.datname = current_database());
  for v_try in 1..2 loop -- the second time under the lock, because another process may have begun the epoch meanwhile
    if not coalesce(p_is_lost, false) and (
      select (e.system_identifier, e.timeline, e.database_oid)
        = (v_here.system_identifier, v_here.timeline, v_here.database_oid)
      from inventory.event_epochs e
      order by e.first_id desc
      limit 1
    ) then
      return false;
    end if;
    lock table inventory.event_order in share update exclusive mode;
  end loop;
  v_last_id := setval(
    'inventory.events_id_seq', greatest(s.last_value, (extract(epoch from clock_timestamp()) * 1000000)::bigint))
  from inventory.events_id_seq s;
  insert into inventory.event_epochs (first_id, lost_after_id, system_identifier, timeline, database_oid)
  values (
    v_last_id + 1, coalesce((select max(e.id) from inventory.events e), 0),
    v_here.system_identifier, v_here.timeline, v_here.database_oid)
  on conflict (first_id) do nothing; -- no id was given out since that epoch began
  return true;
end
$$;

comment on function api.ensure_epoch(boolean) is
'Begin a new epoch of event ids if the database was restored or promoted, or if p_is_lost. True: one began.';
