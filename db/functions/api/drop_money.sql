-- api.drop_money: the money of a drop, or of all drops (p_drop_id null), a row for each currency, for the seller.
--
--   sold_for   what was paid for purchases, before refunds
--   refunded   what of it was refunded, here or at the provider
--   open       what is not paid yet, and may be
--   counts     how many purchases have each status, by the clock
--
-- A part of a basket's payment that the provider refunded of its own accord counts for the drop of the first purchase.
--
-- Locks: none. Errors: DROP_NOT_FOUND.

create or replace function api.drop_money(p_drop_id uuid default null)
returns table (currency text, sold_for numeric, refunded numeric, open numeric, counts jsonb)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
begin
  if p_drop_id is not null then
    perform inventory.require_drop(p_drop_id);
  end if;
  return query
  with of_status as (
    select
      r.currency, r.status, count(*) as purchases, sum(r.amount) as amount, sum(r.refunded_amount) as refunded
    from inventory.purchases p
    cross join lateral inventory.purchase_row(p) r
    where (p_drop_id is null or p.drop_id = p_drop_id) and r.currency is not null
    group by r.currency, r.status
  ),
  at_provider as (
    select y.currency, sum(y.refunded_amount - back.amount) as refunded
    from inventory.payments y
    cross join lateral (
      select coalesce(sum(p.refunded_amount), 0) as amount from inventory.purchases p where p.payment_id = y.id
    ) back
    where (p_drop_id is null or y.drop_id = p_drop_id) and y.status = 'paid' and y.refunded_amount > 0
    group by y.currency
  )
  select
    s.currency,
    coalesce(sum(s.amount) filter (where s.status in ('paid', 'refunded')), 0),
    coalesce(sum(s.refunded), 0) + coalesce((select a.refunded from at_provider a where a.currency = s.currency), 0),
    coalesce(sum(s.amount) filter (where s.status = 'pending'), 0),
    jsonb_object_agg(s.status, s.purchases)
  from of_status s
  group by s.currency
  order by s.currency;
end
$$;

comment on function api.drop_money(uuid) is
'The money of a drop, or of all: what was sold, refunded and is not paid yet, and how many purchases have each status, by
currency.';
