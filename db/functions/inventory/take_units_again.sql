-- inventory.take_units_again: take the units of a cancelled payment once more, because the money came late. Return whether that
-- was possible.
--
-- Purpose: a step of api.record_payment_event. All units are taken, or none. They are not taken if one of the drops was
-- cancelled, if stock is missing, or if the buyer would have more units than limit_per_user. What is due is taken back first,
-- because it is stock by the clock.
--
-- Locks: the caller holds the drops, the purchases and the payment; due reservations, purchases and payments, with skip locked.
-- Errors: none. Plans: see db/README.md, 'Plans'.

create or replace function inventory.take_units_again(p_payment inventory.payments)
returns boolean
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_wanted api.reserve_request[];
  v_drop inventory.drops;
  v_of_drop api.reserve_request[];
begin
  perform inventory.cancel_payments(array[p_payment.id], false); -- by the clock it was cancelled before
  v_wanted := array(
    select row(p.drop_id, p.user_id, null, p.variant_id, p.qty)::api.reserve_request
    from inventory.purchases p
    where p.payment_id = p_payment.id
    order by p.id
  );
  foreach v_drop in array array(
    select d from inventory.drops d where d.id = any (array(select w.drop_id from unnest(v_wanted) w)))
  loop
    v_of_drop := array(select w from unnest(v_wanted) w where w.drop_id = v_drop.id);
    if v_drop.status = 'cancelled' then
      return false;
    end if;
    if inventory.has_due(v_drop) then
      perform inventory.take_back_due(v_drop, v_of_drop);
    end if;
    if (
        select t.units
        from inventory.term_facts(array[v_drop.id], array[v_drop.limit_per_user::integer], array[0], v_of_drop[1:1]) t
      )
      + (select sum(w.qty) from unnest(v_of_drop) w) > v_drop.limit_per_user
    then
      return false;
    end if;
  end loop;
  if exists (
    select
    from (select w.drop_id, sum(w.qty) as units from unnest(v_wanted) w group by w.drop_id) wanted
    where wanted.units > (select d.available_stock from inventory.drops d where d.id = wanted.drop_id)
  ) or exists (
    select
    from unnest(v_wanted) wanted
    where wanted.variant_id is not null and wanted.qty > coalesce((
      select v.available_stock from inventory.variants v where v.drop_id = wanted.drop_id and v.id = wanted.variant_id), 0)
  ) then
    return false;
  end if;

  update inventory.drops d
  set
    available_stock = d.available_stock - (select sum(w.qty) from unnest(v_wanted) w where w.drop_id = d.id),
    updated_at = now()
  where d.id = any (array(select w.drop_id from unnest(v_wanted) w));
  update inventory.variants v
  set
    available_stock = v.available_stock
      - (select sum(w.qty) from unnest(v_wanted) w where w.drop_id = v.drop_id and w.variant_id = v.id),
    updated_at = now()
  where v.drop_id = any (array(select w.drop_id from unnest(v_wanted) w))
    and v.id = any (array(select w.variant_id from unnest(v_wanted) w where w.variant_id is not null));
  return true;
end
$$;

comment on function inventory.take_units_again(inventory.payments) is
'Take the units of a cancelled payment again, all or none, and return whether that was possible. The caller holds the locks.';
