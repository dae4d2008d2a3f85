-- inventory.event_ids_at: the places of these times in the event log.
--
-- Purpose: for each time, oldest first, a number such that the events up to this id are those up to this time, or 0 if the log
-- has none that is so old. Events have no index on their time, because every commit of a sale would pay for it. Their times rise
-- with their ids, so a binary search over the ids finds a time in about 20 look-ups, and in none if nothing happened since the
-- time before.
--
-- Locks: none. Errors: none. Plans: as in api.events_after.

create or replace function inventory.event_ids_at(p_times timestamptz[])
returns bigint[]
language plpgsql stable
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_newest bigint := (select max(e.id) from inventory.events e);
  v_next record; -- the oldest event behind v_low
  v_found record;
  v_time timestamptz;
  v_low bigint := 0; -- events up to here are old enough
  v_high bigint; -- those behind this one are too new
  v_middle bigint;
  v_ids bigint[] := '{}';
begin
  select e.id, e.created_at into v_next from inventory.events e order by e.id limit 1;
  foreach v_time in array p_times loop
    if v_next.created_at <= v_time then
      v_low := v_next.id;
      v_high := v_newest;
      while v_low < v_high loop
        v_middle := (v_low + v_high + 1) / 2;
        select e.id, e.created_at into v_found from inventory.events e where e.id <= v_middle order by e.id desc limit 1;
        if v_found.created_at <= v_time then
          v_low := v_middle;
        else
          v_high := v_found.id - 1;
        end if;
      end loop;
      select e.id, e.created_at into v_next from inventory.events e where e.id > v_low order by e.id limit 1;
    end if;
    v_ids := v_ids || v_low;
  end loop;
  return v_ids;
end
$$;

comment on function inventory.event_ids_at(timestamptz[]) is
'For each of these times, oldest first, a number such that the events up to it are those up to this time.';
