-- api.webhook_backlog: how much waits to be sent to webhook endpoints, and how many endpoints were disabled by the service.
--
-- Purpose: for the metrics. `lag_seconds` is the age of the oldest message that waits.
--
-- Locks: none. Errors: none.

create or replace function api.webhook_backlog()
returns table (pending bigint, lag_seconds double precision, disabled bigint)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select
    (select count(*) from inventory.webhook_deliveries d where d.status = 'pending')
    + (
      select count(*)
      from inventory.webhook_messages m
      where m.id > (select p.last_message from inventory.webhook_position p)
    ),
    coalesce(extract(epoch from now() - least(
      (
        select min(m.created_at)
        from inventory.webhook_lanes l
        cross join lateral (
          select d.message
          from inventory.webhook_deliveries d
          where d.endpoint_id = l.endpoint_id and d.lane = l.lane and d.status = 'pending'
          order by d.message
          limit 1
        ) first
        join inventory.webhook_messages m on m.id = first.message
      ),
      (
        select m.created_at
        from inventory.webhook_messages m
        where m.id > (select p.last_message from inventory.webhook_position p)
        order by m.id
        limit 1
      )
    )), 0)::double precision,
    (select count(*) from inventory.webhook_endpoints e where e.disabled_at is not null)
$$;

comment on function api.webhook_backlog() is
'Say how much waits to be sent to webhook endpoints, for how long, and how many are disabled.';
