-- api.list_reservations: list who holds, or held, units of a drop, for its seller, the newest first, in pages.
--
-- The status is the one by the clock: a hold that is due has expired, whether or not it was taken back.
--
-- Locks: none. Errors: DROP_NOT_FOUND, VALIDATION_ERROR (status, limit, cursor).
--
-- Plans: for each status the first rows of an index scan of reservations_past_idx, from the cursor on. ACTIVE holds are sorted: they
-- are at most those of the time that a hold lasts. The plan is made anew for each call, because it depends on what is asked for.

create or replace function api.list_reservations(
  p_drop_id uuid,
  p_status text default null,
  p_variant_id uuid default null,
  p_buyer_id uuid default null,
  p_limit integer default 50,
  p_after uuid default null
)
returns table (
  id uuid,
  drop_id uuid,
  variant_id uuid,
  user_id uuid,
  basket_id uuid,
  qty integer,
  unit_price numeric,
  currency text,
  amount numeric,
  status text,
  expires_at timestamptz,
  extended_at timestamptz,
  "createdAt" timestamptz,
  "updatedAt" timestamptz,
  username text,
  variant_name text
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_custom_plan
as $$
declare
  v_at timestamptz := 'infinity';
  v_id uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
begin
  perform inventory.require_drop(p_drop_id);
  perform inventory.check_limit(p_limit);
  if p_status not in ('ACTIVE', 'EXPIRED', 'CANCELLED', 'CONSUMED') then
    perform inventory.refuse('VALIDATION_ERROR', 'status: must be ACTIVE, EXPIRED, CANCELLED or CONSUMED');
  end if;
  if p_after is not null then
    select r.created_at, r.id into v_at, v_id from inventory.reservations r where r.id = p_after and r.drop_id = p_drop_id;
    if not found then
      perform inventory.refuse_cursor();
    end if;
  end if;
  return query
  select (inventory.reservation_row(page.r)).*, u.username, v.name
  from (
    select listed.r
    from (
      (
        select r
        from inventory.reservations r
        where r.drop_id = p_drop_id and r.status = 'ACTIVE' and r.expires_at > '-infinity'
          and (r.created_at, r.id) < (v_at, v_id)
          and case p_status when 'ACTIVE' then r.expires_at > now() when 'EXPIRED' then r.expires_at <= now() else p_status is null end
          and (p_variant_id is null or r.variant_id = p_variant_id)
          and (p_buyer_id is null or r.user_id = p_buyer_id)
        order by r.created_at desc, r.id desc
        limit p_limit
      )
      union all
      select of_status.r
      from unnest(array['EXPIRED', 'CANCELLED', 'CONSUMED']) as past (status)
      cross join lateral (
        select r
        from inventory.reservations r
        where r.drop_id = p_drop_id and r.status = past.status and r.status <> 'ACTIVE'
          and r.created_at <= v_at and (r.created_at, r.id) < (v_at, v_id)
          and (p_variant_id is null or r.variant_id = p_variant_id)
          and (p_buyer_id is null or r.user_id = p_buyer_id)
        order by r.created_at desc, r.id desc
        limit p_limit
      ) of_status
      where p_status is null or p_status = past.status
    ) listed (r)
    order by (listed.r).created_at desc, (listed.r).id desc
    limit p_limit
  ) page
  left join inventory.users u on u.id = (page.r).user_id
  left join inventory.variants v on v.id = (page.r).variant_id and v.drop_id = p_drop_id
  order by (page.r).created_at desc, (page.r).id desc;
end
$$;

comment on function api.list_reservations(uuid, text, uuid, uuid, integer, uuid) is
'List who holds, or held, units of a drop, the newest first: p_limit of them, after the one whose id is p_after; only those with
p_status (by the clock), of p_variant_id or of p_buyer_id, if given.';
