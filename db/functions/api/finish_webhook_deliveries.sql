-- api.finish_webhook_deliveries: note what became of the deliveries of a lane, and end its lease.
--
-- Purpose: p_results is a list of {id, status, error}, in the order of the attempts; error is null if the endpoint took the
-- message. Only the last one may have failed. It is tried again after 5 seconds, 10, 20 and so on up to an hour, and the lane
-- waits for it. An attempt that fails after give_up_at, a day after the first one, is the last one. An endpoint is disabled at
-- once if it answers 410 (p_is_gone), and after three days without a success. The results of a lease that another process has
-- taken over are dropped, because that process sends the same deliveries.
--
-- Locks: the endpoint, the lane, its deliveries, perhaps the settings. Errors: none.

create or replace function api.finish_webhook_deliveries(
  p_endpoint_id uuid, p_lane uuid, p_lease uuid, p_results json, p_is_gone boolean
)
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  v_has_failed boolean := exists (select from json_array_elements(p_results) r where r ->> 'error' is not null);
  v_has_succeeded boolean := exists (select from json_array_elements(p_results) r where r ->> 'error' is null);
  v_failing_since timestamptz;
  v_attempts integer;
begin
  -- A lock that is strong enough is taken at once, because two transactions that make a weak one stronger would deadlock.
  if v_has_failed then
    select e.failing_since into v_failing_since from inventory.webhook_endpoints e where e.id = p_endpoint_id for no key update;
  else
    select e.failing_since into v_failing_since from inventory.webhook_endpoints e where e.id = p_endpoint_id for key share;
  end if;
  perform from inventory.webhook_lanes l
  where l.endpoint_id = p_endpoint_id and l.lane = p_lane and l.lease = p_lease
  for no key update;
  if not found then
    return;
  end if;

  update inventory.webhook_deliveries d
  set
    attempts = d.attempts + 1, last_attempt_at = clock_timestamp(), last_status = r.status, last_error = left(r.error, 500),
    status = case when r.error is null then 'delivered' when now() >= d.give_up_at then 'given_up' else 'pending' end
  from json_to_recordset(p_results) as r (id uuid, status integer, error text)
  where d.endpoint_id = p_endpoint_id and d.lane = p_lane and d.id = r.id;

  if v_has_failed then
    update inventory.webhook_endpoints e
    set failing_since = case when v_has_succeeded then now() else coalesce(e.failing_since, now()) end
    where e.id = p_endpoint_id;
    if p_is_gone or (not v_has_succeeded and v_failing_since < now() - interval '3 days') then
      perform inventory.disable_webhook_endpoint(p_endpoint_id, case when p_is_gone then 'gone' else 'failing' end);
      return;
    end if;
  elsif v_has_succeeded and v_failing_since is not null then
    update inventory.webhook_endpoints e set failing_since = null where e.id = p_endpoint_id;
  end if;

  select d.attempts into v_attempts
  from inventory.webhook_deliveries d
  where d.endpoint_id = p_endpoint_id and d.lane = p_lane and d.status = 'pending'
  order by d.message
  limit 1;
  if found then
    update inventory.webhook_lanes l
    set
      lease = null,
      next_attempt_at = case
        when v_has_failed and v_attempts > 0 then
          now() + least(5 * 2 ^ (v_attempts - 1), 3600) * (0.9 + 0.2 * random()) * interval '1 second'
        else now()
      end
    where l.endpoint_id = p_endpoint_id and l.lane = p_lane;
  else
    delete from inventory.webhook_lanes l where l.endpoint_id = p_endpoint_id and l.lane = p_lane;
  end if;
end
$$;

comment on function api.finish_webhook_deliveries(uuid, uuid, uuid, json, boolean) is
'Note what became of the deliveries of a lane, and let it be due when it is to be tried again.';
