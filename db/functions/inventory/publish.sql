-- inventory.publish: append events to the log, in this order, and notify the listeners of each.
--
-- Locks: the calling function holds the lock that orders events, see inventory.publish_changes. Errors: none.
-- Plans: the caller's settings are in force, the search_path, too.
--
-- A notification is the event as api.events_after returns it, with two keys before it. `mac` proves to a listener that this
-- function wrote the rest, because any role that may connect can NOTIFY: HMAC-SHA-256, in hexadecimal, over the payload without
-- the key `mac`, by the key in inventory.event_key. `committedAt` is the moment of publishing, so that a listener can measure how
-- late it hears of it. `data` is the last key, because listeners take everything after it as it is. A notification must stay
-- under 8000 bytes; of a larger event only the id is sent, and the listener reads the log.
--
-- Any role that may connect can listen, too. So the notification of an event that is for one user has nothing but `mac` and `id`.

create or replace function inventory.publish(p_events inventory.new_event[])
returns void
language plpgsql
as $$
declare
  -- The time is written once for all of them, and an event is put together as text, because for each of many events this costs.
  v_published_at timestamptz := clock_timestamp();
  v_begin text := '"committedAt":' || round(extract(epoch from v_published_at), 3) || ',';
  v_at text := '"at":"' || to_char(v_published_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || '"}}';
  v_notified bigint;
begin
  with logged as (
    insert into inventory.events (drop_id, type, data, user_id, created_at)
    select e.drop_id, e.type, e.data, e.user_id, v_published_at
    from unnest(p_events) with ordinality e
    order by e.ordinality
    returning id, type, drop_id, data, user_id
  )
  select count(
    pg_notify(
      'lastpair_events',
      case
        when n.user_id is null and octet_length(n.text) - octet_length(v_begin) >= 7800 then n.id::text
        else '{"mac":"' || encode(sha256(k.outer_key || sha256(k.inner_key || convert_to('{' || n.text, 'UTF8'))), 'hex') || '",'
          || n.text
      end
    )
  )
  into v_notified
  from (
    select
      l.id, l.user_id,
      case
        when l.user_id is not null then '"id":"' || l.id || '"}'
        else
          v_begin || '"type":' || to_json(l.type) || ',"id":"' || l.id || '","drop_id":"' || l.drop_id || '","data":'
            -- The time comes last in `data`, as in inventory.data_with_time.
            || case when l.data::text = '{}' then '{' else left(l.data::text, -1) || ',' end || v_at
      end as text
    from logged l
    order by l.id
    offset 0 -- so that a text is made once, and not wherever it is named
  ) n
  cross join inventory.event_key k; -- it has one row
end
$$;

comment on function inventory.publish(inventory.new_event[]) is 'Append events to the log and notify the listeners of each.';
