-- api.audit: list the violated invariants, one row each; no rows means healthy.
--
-- Locks: none. Errors: none. It is one statement, so it judges one snapshot, even while other transactions commit.

create or replace function api.audit()
returns table (drop_id uuid, invariant text, expected bigint, found bigint)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  with held as (
    select r.drop_id, sum(r.qty) as units
    from inventory.reservations r
    where r.status = 'ACTIVE'
    group by r.drop_id
  ),
  sold as (
    select p.drop_id, sum(p.qty - p.refunded_qty) as units
    from inventory.purchases p
    where p.status in ('pending', 'paid')
    group by p.drop_id
  ),
  of_payment as (
    select p.payment_id, sum(p.amount) as amount, coalesce(sum(p.refunded_amount), 0) as refunded_amount,
      bool_or(p.status in ('pending', 'paid')) as is_sold
    from inventory.purchases p
    where p.payment_id is not null
    group by p.payment_id
  )
  select d.id, 'total_stock = available_stock + held + sold', d.total_stock::bigint,
    d.available_stock + coalesce(held.units, 0) + coalesce(sold.units, 0)
  from inventory.drops d
  left join held on held.drop_id = d.id
  left join sold on sold.drop_id = d.id
  where d.total_stock <> d.available_stock + coalesce(held.units, 0) + coalesce(sold.units, 0)

  union all
  select d.id, 'available_stock is between 0 and total_stock', d.total_stock::bigint, d.available_stock::bigint
  from inventory.drops d
  where d.available_stock not between 0 and d.total_stock

  union all
  select r.drop_id, 'a user has at most one ACTIVE reservation of a variant', 1::bigint, count(*)
  from inventory.reservations r
  where r.status = 'ACTIVE'
  group by r.drop_id, r.variant_id, r.user_id
  having count(*) > 1

  union all
  select r.drop_id, 'the user of a reservation exists', 0::bigint, count(*)
  from inventory.reservations r
  where not exists (select from inventory.users u where u.id = r.user_id)
  group by r.drop_id

  union all
  select v.drop_id, 'total_stock of a drop = the sum of its variants', max(d.total_stock)::bigint, sum(v.total_stock)
  from inventory.variants v
  join inventory.drops d on d.id = v.drop_id
  group by v.drop_id
  having sum(v.total_stock) <> max(d.total_stock)

  union all
  select v.drop_id, 'available_stock of a drop = the sum of its variants', max(d.available_stock)::bigint, sum(v.available_stock)
  from inventory.variants v
  join inventory.drops d on d.id = v.drop_id
  group by v.drop_id
  having sum(v.available_stock) <> max(d.available_stock)

  union all
  select v.drop_id, 'total_stock of a variant = available_stock + held + sold', v.total_stock::bigint,
    v.available_stock + coalesce(held_of_variant.units, 0) + coalesce(sold_of_variant.units, 0)
  from inventory.variants v
  left join (
    select r.variant_id, sum(r.qty) as units
    from inventory.reservations r
    where r.status = 'ACTIVE' and r.variant_id is not null
    group by r.variant_id
  ) held_of_variant on held_of_variant.variant_id = v.id
  left join (
    select p.variant_id, sum(p.qty - p.refunded_qty) as units
    from inventory.purchases p
    where p.status in ('pending', 'paid') and p.variant_id is not null
    group by p.variant_id
  ) sold_of_variant on sold_of_variant.variant_id = v.id
  where v.total_stock <> v.available_stock + coalesce(held_of_variant.units, 0) + coalesce(sold_of_variant.units, 0)

  union all
  select p.drop_id, 'a purchase has the variant, units, price and amount of its reservation', 0::bigint, count(*)
  from inventory.purchases p
  join inventory.reservations r on r.id = p.reservation_id and r.drop_id = p.drop_id
  where p.amount is distinct from p.qty * p.unit_price or p.variant_id is distinct from r.variant_id
    -- A hold without a unit price was made before version 0.3.
    or r.unit_price is not null and (p.qty, p.unit_price, p.currency) is distinct from (r.qty, r.unit_price, r.currency)
  group by p.drop_id

  union all
  select r.drop_id, 'no ACTIVE reservation ends before nothing_due_before of its drop', 0::bigint, count(*)
  from inventory.reservations r
  join inventory.drops d on d.id = r.drop_id
  where r.status = 'ACTIVE' and r.expires_at < d.nothing_due_before
  group by r.drop_id

  union all
  select r.drop_id, 'a CONSUMED reservation has one purchase, by its user', 1::bigint, count(p.id)
  from inventory.reservations r
  left join inventory.purchases p on p.reservation_id = r.id and p.drop_id = r.drop_id and p.user_id = r.user_id
  where r.status = 'CONSUMED'
  group by r.drop_id, r.id
  having count(p.id) <> 1

  union all
  select p.drop_id, 'a purchase comes from a CONSUMED reservation', 0::bigint, count(*)
  from inventory.purchases p
  where not exists (
    select from inventory.reservations r
    where r.id = p.reservation_id and r.drop_id = p.drop_id and r.status = 'CONSUMED'
  )
  group by p.drop_id

  union all
  select null, 'a basket has a reservation of its user for each item', jsonb_array_length(b.items)::bigint, held.holds
  from inventory.baskets b
  cross join lateral (
    select count(*) as holds from inventory.reservations r where r.basket_id = b.id and r.user_id = b.user_id
  ) held
  where held.holds <> jsonb_array_length(b.items)

  union all
  select p.drop_id, 'no pending purchase ends before nothing_due_before of its drop', 0::bigint, count(*)
  from inventory.purchases p
  join inventory.drops d on d.id = p.drop_id
  where p.status = 'pending' and p.payment_expires_at < d.nothing_due_before
  group by p.drop_id

  union all
  select p.drop_id, 'a purchase with a payment has the user, the end and the status that the payment has', 0::bigint, count(*)
  from inventory.purchases p
  left join inventory.payments y on y.id = p.payment_id
  -- A purchase that has an end needs its payment, because what is due is taken back with it.
  where (p.payment_id is not null or p.payment_expires_at is not null) and (
    y.id is null or y.user_id <> p.user_id or y.currency <> p.currency or y.expires_at is distinct from p.payment_expires_at
    or case y.status
      when 'pending' then p.status <> 'pending'
      when 'failed' then p.status <> 'pending'
      when 'paid' then p.status not in ('paid', 'refunded')
      when 'refunded' then p.status not in ('refunded', 'cancelled')
      -- A due payment of a basket ends with the first of its purchases; the others end when their drops are looked at.
      when 'cancelled' then p.status <> 'cancelled' and (p.status <> 'pending' or p.payment_expires_at > now())
    end)
  group by p.drop_id

  union all
  select y.drop_id, 'the amount of a payment = the sum of its purchases', y.amount::bigint, coalesce(bought.amount, 0)::bigint
  from inventory.payments y
  left join of_payment bought on bought.payment_id = y.id
  where y.amount is distinct from bought.amount

  union all
  select y.drop_id, 'the refunds of a payment are not less than those of its purchases, nor more than its amount',
    y.amount::bigint, y.refunded_amount::bigint
  from inventory.payments y
  join of_payment bought on bought.payment_id = y.id
  where y.refunded_amount < bought.refunded_amount or y.refunded_amount > y.amount
    or (y.status = 'refunded') <> (y.refunded_amount = y.amount and not bought.is_sold)

  union all
  select c.drop_id, 'calls refund no more than the refunds of a payment', y.refunded_amount::bigint, sum(c.amount)::bigint
  from inventory.provider_calls c
  join inventory.payments y on y.id = c.payment_id
  where c.action = 'refund'
  group by c.drop_id, y.id
  having sum(c.amount) > y.refunded_amount

  union all
  select p.drop_id, 'refunded units of a purchase are those of its status', 0::bigint, count(*)
  from inventory.purchases p
  where p.refunded_qty not between 0 and p.qty or (p.status = 'refunded') <> (p.refunded_qty = p.qty)
  group by p.drop_id

  union all
  select d.id, 'a cancelled drop holds nothing', 0::bigint, held.units
  from inventory.drops d
  join held on held.drop_id = d.id
  where d.status = 'cancelled';
end
$$;

comment on function api.audit() is
'List the violated invariants, one row each, with the expected and the found number; no rows means healthy.';
