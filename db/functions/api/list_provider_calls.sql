-- api.list_provider_calls: list what payment providers were or are to be told, for the seller: first what is open or was given
-- up, then what is done, each the newest first, in pages. Of one drop, or of all (p_drop_id null).
--
-- The payment of a basket counts for the drop of its first purchase.
--
-- p_after_at says where the call p_after comes in the list: infinity if it was open or given up when it was read, and any other time if
-- it was done. It may be done by now, or on another node of a router.
--
-- Locks: none. Errors: DROP_NOT_FOUND, VALIDATION_ERROR (limit, cursor).
-- Plans: the plan is made anew for each call, because it depends on what is asked for.

create or replace function api.list_provider_calls(
  p_drop_id uuid default null, p_limit integer default 50, p_after uuid default null, p_after_at timestamptz default null
)
returns setof api.provider_call_row
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_custom_plan
as $$
declare
  v_is_done boolean := false;
  v_id uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
begin
  perform inventory.check_limit(p_limit);
  if p_drop_id is not null then
    perform inventory.require_drop(p_drop_id);
  end if;
  if p_after_at is not null then
    v_is_done := p_after_at < 'infinity';
    v_id := p_after;
  elsif p_after is not null then
    select c.done_at is not null, c.id into v_is_done, v_id from inventory.provider_calls c where c.id = p_after;
    if not found then
      perform inventory.refuse_cursor();
    end if;
  end if;
  return query
  select r.*
  from (
    (
      select c.id, false as is_done
      from inventory.provider_calls c
      where not v_is_done and c.done_at is null and (p_drop_id is null or c.drop_id = p_drop_id) and c.id < v_id
      order by c.id desc
      limit p_limit
    )
    union all
    (
      select c.id, true
      from inventory.provider_calls c
      where c.done_at is not null and (p_drop_id is null or c.drop_id = p_drop_id) and (not v_is_done or c.id < v_id)
      order by c.id desc
      limit p_limit
    )
  ) page
  join inventory.provider_calls c on c.id = page.id
  cross join lateral inventory.provider_call_row(c) r
  order by page.is_done, page.id desc
  limit p_limit;
end
$$;

comment on function api.list_provider_calls(uuid, integer, uuid, timestamptz) is
'List what payment providers were or are to be told, of a drop or of all: what is open or given up first, the newest first: p_limit
of them, after the one whose id is p_after. p_after_at is when that one was done, or infinity.';
