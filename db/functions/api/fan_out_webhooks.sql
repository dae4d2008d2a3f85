-- api.fan_out_webhooks: make a delivery of each new message for each endpoint that wants it. Returns how many messages were new;
-- null if there is no endpoint.
--
-- Purpose: every process calls it again and again, and one of them at a time does the work. Ids of messages are in commit order,
-- so a reader who has seen one will never find a smaller one appear, and the position is one number. Ids of deliveries rise in the
-- order of the messages, because a router sorts by them what was made at one time.
--
-- Locks: the position; a second caller does not wait and returns 0. Then the endpoints, weakly, and the lanes. Errors: none.

create or replace function api.fan_out_webhooks(p_limit integer)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  v_position bigint;
  v_last bigint;
  v_messages integer;
begin
  if not exists (select from inventory.webhook_endpoints e) then
    return null;
  end if;
  select p.last_message into v_position from inventory.webhook_position p where p.is_only for no key update skip locked;
  if not found then
    return 0;
  end if;
  select count(*), max(next.id) into v_messages, v_last
  from (select m.id from inventory.webhook_messages m where m.id > v_position order by m.id limit p_limit) next;
  if v_messages = 0 then
    return 0;
  end if;
  -- An endpoint that is changed or removed at this moment is waited for, before any lane is locked.
  perform from inventory.webhook_endpoints e order by e.id for key share;
  insert into inventory.webhook_lanes as l (endpoint_id, lane)
  select distinct e.id, coalesce(m.drop_id, e.id)
  from inventory.webhook_messages m
  join inventory.webhook_endpoints e on e.is_active and m.type = any (e.event_types) and e.created_at <= m.created_at
  where m.id > v_position and m.id <= v_last
  order by 1, 2
  on conflict (endpoint_id, lane) do update set lane = excluded.lane; -- the row is locked, so that it does not go meanwhile
  with delivery as (
    select e.id as endpoint_id, coalesce(m.drop_id, e.id) as lane, m.id as message, row_number() over (order by m.id) as n
    from inventory.webhook_messages m
    join inventory.webhook_endpoints e on e.is_active and m.type = any (e.event_types) and e.created_at <= m.created_at
    where m.id > v_position and m.id <= v_last
  ), new as (
    select inventory.new_ids(count(*)::integer) as ids from delivery
  )
  insert into inventory.webhook_deliveries (endpoint_id, lane, message, id)
  select d.endpoint_id, d.lane, d.message, new.ids[d.n]
  from delivery d
  cross join new
  order by d.n;
  update inventory.webhook_position p set last_message = v_last where p.is_only;
  return v_messages;
end
$$;

comment on function api.fan_out_webhooks(integer) is
'Make a delivery of each of the next p_limit messages for each webhook endpoint that wants it. Returns how many there were.';
