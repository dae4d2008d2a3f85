-- api.list_payments: list payments for the seller, of one drop or of all (p_drop_id null), the newest first, in pages.
--
-- The status is the one by the clock: a payment that was not paid in time is cancelled. What the buyer pays with is not shown. A
-- payment of a basket is listed for each of its drops.
--
-- If the payment p_after is of another node, p_after_at says when it comes in the list (api.cursor_time).
--
-- Locks: none. Errors: DROP_NOT_FOUND, VALIDATION_ERROR (status, limit, cursor).
-- Plans: the first rows of an index scan of purchases_of_payments_idx or payments_created_at_idx, from the cursor on. The plan is
-- made anew for each call, because it depends on what is asked for.

create or replace function api.list_payments(
  p_drop_id uuid default null, p_statuses text[] default null, p_limit integer default 50, p_after uuid default null,
  p_after_at timestamptz default null
)
returns table (
  id uuid,
  drop_id uuid,
  basket_id uuid,
  user_id uuid,
  amount numeric,
  currency text,
  status text,
  refunded_amount numeric,
  provider text,
  provider_reference text,
  expires_at timestamptz,
  paid_at timestamptz,
  "createdAt" timestamptz,
  "updatedAt" timestamptz,
  username text
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_at timestamptz := 'infinity';
  v_id uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
begin
  perform inventory.check_limit(p_limit);
  if not p_statuses <@ array['pending', 'paid', 'failed', 'cancelled', 'refunded'] then
    perform inventory.refuse('VALIDATION_ERROR', 'status: must be pending, paid, failed, cancelled or refunded');
  end if;
  if p_drop_id is not null then
    perform inventory.require_drop(p_drop_id);
  end if;
  if p_after_at is not null then
    v_at := p_after_at;
    v_id := p_after;
  elsif p_after is not null then
    select y.created_at, y.id into v_at, v_id from inventory.payments y where y.id = p_after;
    if not found then
      perform inventory.refuse_cursor();
    end if;
  end if;
  return query
  select
    r.id, r.drop_id, r.basket_id, r.user_id, r.amount, r.currency, r.status, r.refunded_amount, r.provider, r.provider_reference,
    r.expires_at, r.paid_at, r."createdAt", r."updatedAt", u.username
  from (
    (
      select y
      from inventory.payments y
      where p_drop_id is null
        and y.created_at <= v_at and (y.created_at, y.id) < (v_at, v_id)
        and (p_statuses is null or (inventory.payment_row(y)).status = any (p_statuses))
      order by y.created_at desc, y.id desc
      limit p_limit
    )
    union all
    (
      select y
      from inventory.purchases p
      join inventory.payments y on y.id = p.payment_id
      where p.drop_id = p_drop_id and p.payment_id is not null
        and p.created_at <= v_at and (p.created_at, p.payment_id) < (v_at, v_id)
        and (p_statuses is null or (inventory.payment_row(y)).status = any (p_statuses))
        and not exists ( -- a payment may be for several variants of the drop
          select from inventory.purchases o where o.payment_id = p.payment_id and o.drop_id = p_drop_id and o.id < p.id)
      order by p.created_at desc, p.payment_id desc
      limit p_limit
    )
  ) page
  cross join lateral inventory.payment_row(page.y) r
  left join inventory.users u on u.id = r.user_id
  order by r."createdAt" desc, r.id desc;
end
$$;

comment on function api.list_payments(uuid, text[], integer, uuid, timestamptz) is
'List payments, of a drop or of all, the newest first: p_limit of them, after the one whose id is p_after; only those in
p_statuses, if given. p_after_at is for a router.';
