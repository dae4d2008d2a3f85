-- api.list_webhook_endpoints: the webhook endpoints, the newest first, in pages.
--
-- p_after_at says when the endpoint p_after was made, so that it is not looked up. It may be gone.
--
-- Locks: none. Errors: VALIDATION_ERROR (limit, cursor).

create or replace function api.list_webhook_endpoints(
  p_limit integer default 50, p_after uuid default null, p_after_at timestamptz default null
)
returns setof api.webhook_endpoint_row
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_at timestamptz := p_after_at;
begin
  perform inventory.check_limit(p_limit);
  if p_after is not null and p_after_at is null then
    select e.created_at into v_at from inventory.webhook_endpoints e where e.id = p_after;
    if not found then
      perform inventory.refuse_cursor();
    end if;
  end if;
  return query
  select r.*
  from (
    select e
    from inventory.webhook_endpoints e
    where p_after is null or (e.created_at, e.id) < (v_at, p_after)
    order by e.created_at desc, e.id desc
    limit p_limit
  ) page
  cross join lateral inventory.webhook_endpoint_row(page.e) r
  order by r."createdAt" desc, r.id desc;
end
$$;

comment on function api.list_webhook_endpoints(integer, uuid, timestamptz) is
'List the webhook endpoints, the newest first: p_limit of them, after the one whose id is p_after. p_after_at is the time of that one.';
