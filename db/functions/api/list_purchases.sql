-- api.list_purchases: list who bought on a drop, for its seller, the newest first, in pages.
--
-- The status is the one by the clock: a pending purchase that was not paid in time is cancelled.
--
-- Locks: none. Errors: DROP_NOT_FOUND, VALIDATION_ERROR (status, limit, cursor).
--
-- Plans: for each status the first rows of an index scan, from the cursor on: paid ones of purchases_latest_idx, others of
-- purchases_unpaid_idx, those of one buyer perhaps of an index of the user. The plan is made anew for each call, because it
-- depends on what is asked for.

create or replace function api.list_purchases(
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
  reservation_id uuid,
  user_id uuid,
  qty integer,
  unit_price numeric,
  currency text,
  amount numeric,
  status text,
  refunded_amount numeric,
  refunded_at timestamptz,
  "createdAt" timestamptz,
  "updatedAt" timestamptz,
  refunded_qty integer,
  payment_id uuid,
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
  if p_status not in ('pending', 'paid', 'failed', 'cancelled', 'refunded') then
    perform inventory.refuse('VALIDATION_ERROR', 'status: must be pending, paid, failed, cancelled or refunded');
  end if;
  if p_after is not null then
    select p.created_at, p.id into v_at, v_id from inventory.purchases p where p.id = p_after and p.drop_id = p_drop_id;
    if not found then
      perform inventory.refuse_cursor();
    end if;
  end if;
  return query
  select (inventory.purchase_row(page.p)).*, u.username, v.name
  from (
    select listed.p
    from (
      (
        select p
        from inventory.purchases p
        where p.drop_id = p_drop_id and p.status = 'paid' and p.created_at <= v_at and (p.created_at, p.id) < (v_at, v_id)
          and (p_status is null or p_status = 'paid')
          and (p_variant_id is null or p.variant_id = p_variant_id)
          and (p_buyer_id is null or p.user_id = p_buyer_id)
        order by p.created_at desc, p.id desc
        limit p_limit
      )
      union all
      select of_status.p
      from unnest(array['pending', 'failed', 'cancelled', 'refunded']) as other (status)
      cross join lateral (
        select p
        from inventory.purchases p
        where p.drop_id = p_drop_id and p.status = other.status and p.status <> 'paid'
          and p.created_at <= v_at and (p.created_at, p.id) < (v_at, v_id)
          and (p_variant_id is null or p.variant_id = p_variant_id)
          and (p_buyer_id is null or p.user_id = p_buyer_id)
          and (
            p_status is null
            or p_status = case when p.status = 'pending' and p.payment_expires_at <= now() then 'cancelled' else p.status end)
        order by p.created_at desc, p.id desc
        limit p_limit
      ) of_status
      where p_status is null or p_status = other.status or p_status = 'cancelled' and other.status = 'pending'
    ) listed (p)
    order by (listed.p).created_at desc, (listed.p).id desc
    limit p_limit
  ) page
  left join inventory.users u on u.id = (page.p).user_id
  left join inventory.variants v on v.id = (page.p).variant_id and v.drop_id = p_drop_id
  order by (page.p).created_at desc, (page.p).id desc;
end
$$;

comment on function api.list_purchases(uuid, text, uuid, uuid, integer, uuid) is
'List who bought on a drop, the newest first: p_limit of them, after the one whose id is p_after; only those with p_status, of
p_variant_id or of p_buyer_id, if given.';
