-- api.list_drops: list the drops on sale now, or those of one status, in pages, each with its latest purchasers and the units
-- held. The newest start comes first, before all a drop without a start.
--
-- p_after_at says when the drop p_after comes in the list (api.cursor_time), so that the drop is not looked up. It may start at another
-- time now, be a draft now, or be on another node of a router.
--
-- One that was cancelled as a draft is on no list. The status is the one by the clock: an `ended` drop may be stored as live,
-- because the sweep has not come by. api.on_sale_version must check everything that changes by the clock.
--
-- Locks: none. Errors: FORBIDDEN (drafts, see inventory.may_see_drafts), VALIDATION_ERROR (status, limit, cursor).
--
-- Plans: for each status that a drop of the list may be stored with, the first rows of an index scan of drops_active_idx, from the
-- cursor on. Drops without a start are looked for by themselves, so that one kept plan serves pages with and without a cursor. The
-- scan for drops on sale begins at now(), so it does not visit those that start later.

create or replace function api.list_drops(
  p_status text default null, p_limit integer default 50, p_after uuid default null, p_after_at timestamptz default null
)
returns table (
  id uuid,
  name text,
  price numeric,
  currency text,
  total_stock integer,
  available_stock integer,
  variants api.variant_row[],
  starts_at timestamptz,
  ends_at timestamptz,
  status text,
  paused_at timestamptz,
  limit_per_user integer,
  hold_seconds integer,
  rehold_after_seconds integer,
  extension_seconds integer,
  revision integer,
  created_by uuid,
  "createdAt" timestamptz,
  "updatedAt" timestamptz,
  image_url text,
  activity_feed json
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_stored text[] := case p_status
    when 'draft' then array['draft']
    when 'scheduled' then array['scheduled']
    when 'live' then array['scheduled', 'live']
    when 'ended' then array['ended', 'scheduled', 'live']
    when 'cancelled' then array['cancelled']
  end;
  v_starts_at timestamptz;
  v_id uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  v_latest_start timestamptz := case when p_status is null then now() else 'infinity' end;
  v_page inventory.drops[];
begin
  perform inventory.check_limit(p_limit);
  if p_status is null then
    v_stored := array['scheduled', 'live'];
  elsif v_stored is null then
    perform inventory.refuse_constraint('drops_status_check');
  elsif p_status = 'draft' and not inventory.may_see_drafts() then
    perform inventory.refuse('FORBIDDEN', 'status: drafts are the sellers'' to see.');
  end if;
  if p_after_at is not null then
    v_starts_at := nullif(p_after_at, 'infinity'); -- that of a drop without a start
    v_id := p_after;
  elsif p_after is not null then
    select d.starts_at, d.id into v_starts_at, v_id
    from inventory.drops d
    where d.id = p_after and (inventory.is_public(d) or p_status = 'draft');
    if not found then
      perform inventory.refuse_cursor();
    end if;
  end if;
  v_page := array(
    select of_status.d
    from unnest(v_stored) as stored (status)
    cross join lateral (
      (
        select d, d.starts_at, d.id
        from inventory.drops d
        where d.status = stored.status and d.starts_at is null and v_starts_at is null and d.id < v_id
          and inventory.status_now(d) = p_status
          and (inventory.is_public(d) or d.status = 'draft')
        order by d.starts_at desc, d.id desc
        limit p_limit
      )
      union all
      (
        select d, d.starts_at, d.id
        from inventory.drops d
        where d.status = stored.status and (d.starts_at, d.id) < (coalesce(v_starts_at, v_latest_start), v_id)
          and d.starts_at <= v_latest_start
          and case when p_status is null then d.ends_at is null or d.ends_at > now() else inventory.status_now(d) = p_status end
          and (inventory.is_public(d) or d.status = 'draft')
        order by d.starts_at desc, d.id desc
        limit p_limit
      )
    ) of_status
    order by of_status.starts_at desc, of_status.id desc
    limit p_limit
  );
  return query
  select d.*, activity.feed
  from inventory.drop_rows(v_page) d
  cross join lateral inventory.activity_feed(d.id) activity;
end
$$;

comment on function api.list_drops(text, integer, uuid, timestamptz) is
'List the drops on sale now, or those with p_status (by the clock), the newest start first: p_limit of them, after the one whose id
is p_after, each with its three latest purchasers and the number of units held. p_after_at is the start of that
drop when it was read, or infinity.';
