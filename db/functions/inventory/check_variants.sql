-- inventory.check_variants: refuse a drop of which a variant does not balance: total_stock = available_stock + held + sold units.
--
-- Purpose: a step of inventory.publish_changes, at the commit, after inventory.changes.variant_balance has shown that variants may not
-- balance. It reads all holds and sales of the drop. It also decides about a transaction during which a deployment replaced the
-- functions that note changes, because that noted only a part.
--
-- Locks: none. Errors: integrity_constraint_violation (23000).

create or replace function inventory.check_variants(p_drop_id uuid)
returns void
language plpgsql stable
as $$
declare
  v_variant record;
begin
  select v.id, v.total_stock, v.available_stock, coalesce(held.units, 0) as held, coalesce(sold.units, 0) as sold
  into v_variant
  from inventory.variants v
  left join (
    select r.variant_id, sum(r.qty) as units
    from inventory.reservations r
    where r.drop_id = p_drop_id and r.status = 'ACTIVE'
    group by r.variant_id
  ) held on held.variant_id = v.id
  left join (
    select p.variant_id, sum(p.qty - p.refunded_qty) as units
    from inventory.purchases p
    where p.drop_id = p_drop_id and p.status in ('pending', 'paid')
    group by p.variant_id
  ) sold on sold.variant_id = v.id
  where v.drop_id = p_drop_id and v.total_stock <> v.available_stock + coalesce(held.units, 0) + coalesce(sold.units, 0)
  order by v.id
  limit 1;
  if found then
    raise exception using
      errcode = 'integrity_constraint_violation',
      message = format('the stock of variant %s does not balance', v_variant.id),
      detail = format(
        'It has a total_stock of %s, and an available_stock of %s, %s held and %s sold units.',
        v_variant.total_stock, v_variant.available_stock, v_variant.held, v_variant.sold),
      hint = 'Change the stock with the functions of the schema api, or everything that belongs to it in one transaction.';
  end if;
end
$$;

comment on function inventory.check_variants(uuid) is 'Refuse a drop of which a variant does not balance.';
