-- inventory.publish: append events to the log, in this order, and notify the listeners of them.
--
-- Locks: the calling function holds the lock that orders events, see inventory.publish_changes. Errors: none.
-- Plans: the caller's settings are in force, the search_path, too.
--
-- A notification has several events, because each notification costs the session and every listener more than an event does. Each
-- event is as api.events_after returns it, on a line of its own, so a listener takes it as text. Before them are two keys. `mac`
-- proves to a listener that this function wrote the rest, because any role that may connect can NOTIFY: HMAC-SHA-256, in
-- hexadecimal, over the payload without the key `mac`, by the key in inventory.event_key. `committedAt` is the moment of
-- publishing, so that a listener can measure how late it hears of the events.
--
-- A notification must stay under 8000 bytes. Of an event that is too large for that only the id is sent, and the listener reads
-- the log. So it is with an event that is for one user, because any role that may connect can listen, too.

create or replace function inventory.publish(p_events inventory.new_event[])
returns void
language plpgsql
as $$
declare
  -- The time is written once for all of them, and an event is put together as text, because for each of many events this costs.
  v_published_at timestamptz := clock_timestamp();
  v_at text := '"at":"' || to_char(v_published_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || '"}}';
  v_begin text := '"committedAt":' || round(extract(epoch from v_published_at), 3) || E',"events":[\n';
  v_texts text[];
  v_inner_key bytea;
  v_outer_key bytea;
  v_first_n integer := 1;  -- of the next notification: its first event,
  v_last_n integer;        -- its last one,
  v_text text;             -- all of them,
  v_code text;             -- and what proves them
  v_is_sent boolean;
  c_events constant integer := 32;
  c_bytes constant integer := 7800;
begin
  if cardinality(p_events) > 1000 then -- because a part of an array takes as long as all of it
    perform inventory.publish(part.events)
    from (
      select array_agg(row(e.drop_id, e.type, e.data, e.user_id)::inventory.new_event order by e.ordinality) as events
      from unnest(p_events) with ordinality e
      group by (e.ordinality - 1) / 1000
      order by min(e.ordinality)
      offset 0
    ) part;
    return;
  end if;

  with logged as (
    insert into inventory.events (drop_id, type, data, user_id, created_at)
    select e.drop_id, e.type, e.data, e.user_id, v_published_at
    from unnest(p_events) with ordinality e
    order by e.ordinality
    returning id, type, drop_id, data, user_id
  )
  select n.texts, k.inner_key, k.outer_key
  into v_texts, v_inner_key, v_outer_key
  from (
    select
      array_agg(case when octet_length(t.text) > c_bytes then '{"id":"' || t.id || '"}' else t.text end order by t.id) as texts
    from (
      select
        l.id,
        case
          when l.user_id is not null then '{"id":"' || l.id || '"}'
          else
            '{"type":' || to_json(l.type) || ',"id":"' || l.id || '","drop_id":"' || l.drop_id || '","data":'
              -- The time comes last in `data`, as in inventory.data_with_time.
              || case when l.data::text = '{}' then '{' else left(l.data::text, -1) || ',' end || v_at
        end as text
      from logged l
      offset 0 -- so that a text is made once, and not wherever it is named
    ) t
  ) n
  cross join inventory.event_key k; -- it has one row at most

  while v_first_n <= cardinality(v_texts) loop -- without a key there is nothing to tell
    v_last_n := least(v_first_n + c_events - 1, cardinality(v_texts));
    loop
      v_text := array_to_string(v_texts[v_first_n:v_last_n], E',\n');
      exit when v_last_n = v_first_n or octet_length(v_text) <= c_bytes;
      v_last_n := (v_first_n + v_last_n) / 2;
    end loop;
    v_text := v_begin || v_text || ']}';
    v_code := encode(sha256(v_outer_key || sha256(v_inner_key || convert_to('{' || v_text, 'UTF8'))), 'hex');
    v_is_sent := pg_notify('lastpair_events', '{"mac":"' || v_code || '",' || v_text) is null; -- less than a statement costs
    v_first_n := v_last_n + 1;
  end loop;
end
$$;

comment on function inventory.publish(inventory.new_event[]) is 'Append events to the log and notify the listeners of them.';
