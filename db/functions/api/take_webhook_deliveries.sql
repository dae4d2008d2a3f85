-- api.take_webhook_deliveries: lease lanes that are due, and return what is to be sent, in the order in which it is to be sent.
--
-- Purpose: the caller sends the deliveries of a lane one after the other, ends at the first that fails, and tells
-- api.finish_webhook_deliveries before the lease ends. p_busy names the endpoint of each lane that the calling process has: of an
-- endpoint a process has at most p_lanes, so that a slow one does not keep the others waiting. The body is the same at every
-- attempt.
--
-- Locks: the lanes; those that another transaction has locked are skipped. Errors: none.

create or replace function api.take_webhook_deliveries(p_busy uuid[], p_lanes integer, p_limit integer, p_lease_seconds integer)
returns table (
  endpoint_id uuid, lane uuid, lease uuid, url text, secrets text[], delivery_id uuid, webhook_id uuid, body text
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  v_endpoint inventory.webhook_endpoints;
  v_lane inventory.webhook_lanes;
begin
  for v_endpoint in select * from inventory.webhook_endpoints e where e.is_active order by e.id loop
    for v_lane in
      select *
      from inventory.webhook_lanes l
      where l.endpoint_id = v_endpoint.id and l.next_attempt_at <= now()
      order by l.next_attempt_at
      limit greatest(p_lanes - (select count(*) from unnest(p_busy) b where b = v_endpoint.id), 0)
      for no key update skip locked
    loop
      update inventory.webhook_lanes l
      set lease = gen_random_uuid(), next_attempt_at = now() + make_interval(secs => p_lease_seconds)
      where l.endpoint_id = v_lane.endpoint_id and l.lane = v_lane.lane
      returning l.lease into v_lane.lease;
      return query
      select
        v_endpoint.id, v_lane.lane, v_lane.lease, v_endpoint.url,
        array[v_endpoint.secret]
          || case when v_endpoint.previous_secret_ends_at > now() then array[v_endpoint.previous_secret] else '{}' end,
        next.id, m.message_id,
        '{"type":' || to_json(m.type) || ',"timestamp":' || to_json(m.created_at) || ',"data":' || m.data || '}'
      from (
        select d.id, d.message
        from inventory.webhook_deliveries d
        where d.endpoint_id = v_lane.endpoint_id and d.lane = v_lane.lane and d.status = 'pending'
        order by d.message
        limit p_limit
      ) next
      join inventory.webhook_messages m on m.id = next.message
      order by next.message;
    end loop;
  end loop;
end
$$;

comment on function api.take_webhook_deliveries(uuid[], integer, integer, integer) is
'Lease lanes of webhook deliveries that are due, and return what is to be sent: p_limit deliveries of each lane.';
