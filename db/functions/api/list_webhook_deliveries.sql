-- api.list_webhook_deliveries: what was sent, or is to be sent, to a webhook endpoint, the newest first, in pages.
--
-- p_after_at says when the delivery p_after was made (api.cursor_time), so that it is not looked up. It may be gone, or on another
-- node of a router. What was made at one time has ids in the order of its messages.
--
-- Locks: none. Errors: WEBHOOK_ENDPOINT_NOT_FOUND, VALIDATION_ERROR (status, limit, cursor).
--
-- Plans: an index scan of the endpoint's deliveries from the newest on. The plan is made anew for each call, because it depends
-- on what is asked for.

create or replace function api.list_webhook_deliveries(
  p_endpoint_id uuid,
  p_status text default null,
  p_type text default null,
  p_drop_id uuid default null,
  p_limit integer default 50,
  p_after uuid default null,
  p_after_at timestamptz default null
)
returns setof api.webhook_delivery_row
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_custom_plan
as $$
declare
  v_at timestamptz := coalesce(p_after_at, 'infinity');
  v_id uuid := coalesce(p_after, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
begin
  perform inventory.check_limit(p_limit);
  if not exists (select from inventory.webhook_endpoints e where e.id = p_endpoint_id) then
    perform inventory.refuse('WEBHOOK_ENDPOINT_NOT_FOUND');
  end if;
  if p_status not in ('pending', 'delivered', 'given_up') then
    perform inventory.refuse_constraint('webhook_deliveries_status_check');
  end if;
  if p_after is not null and p_after_at is null then
    select d.created_at into v_at from inventory.webhook_deliveries d where d.id = p_after and d.endpoint_id = p_endpoint_id;
    if not found then
      perform inventory.refuse_cursor();
    end if;
  end if;
  return query
  select r.*
  from (
    select d
    from inventory.webhook_deliveries d
    where d.endpoint_id = p_endpoint_id and (d.created_at, d.id) < (v_at, v_id)
      and (p_status is null or d.status = p_status)
      and (p_drop_id is null or d.lane = p_drop_id)
      and (p_type is null or p_type = (select m.type from inventory.webhook_messages m where m.id = d.message))
    order by d.created_at desc, d.id desc
    limit p_limit
  ) page
  cross join lateral inventory.webhook_delivery_row(page.d) r
  order by (page.d).created_at desc, (page.d).id desc;
end
$$;

comment on function api.list_webhook_deliveries(uuid, text, text, uuid, integer, uuid, timestamptz) is
'List the deliveries of a webhook endpoint, the newest first: p_limit of them, after the one whose id is p_after; only those with
p_status, of p_type or of p_drop_id, if given. p_after_at is the time of the one whose id is p_after.';
