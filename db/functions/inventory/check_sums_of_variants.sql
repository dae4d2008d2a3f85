-- inventory.check_sums_of_variants: refuse a drop whose stock is not that of its variants together.
--
-- Purpose: a step of inventory.publish_changes, at the commit, after variants or their drop were changed. The functions change both;
-- by hand one may have been forgotten. A drop without variants passes.
--
-- Locks: none. Errors: integrity_constraint_violation (23000).

create or replace function inventory.check_sums_of_variants(p_drop inventory.drops)
returns void
language plpgsql stable
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_total bigint;
  v_available bigint;
begin
  select sum(v.total_stock), sum(v.available_stock) into v_total, v_available
  from inventory.variants v
  where v.drop_id = p_drop.id;
  if v_total <> p_drop.total_stock or v_available <> p_drop.available_stock then
    raise exception using
      errcode = 'integrity_constraint_violation',
      message = format('the stock of drop %s is not that of its variants', p_drop.id),
      detail = format(
        'The drop has a total_stock of %s and an available_stock of %s; its variants together have %s and %s.',
        p_drop.total_stock, p_drop.available_stock, v_total, v_available),
      hint = 'Change the stock with the functions of the schema api, or everything that belongs to it in one transaction.';
  end if;
end
$$;

comment on function inventory.check_sums_of_variants(inventory.drops) is
'Refuse a drop whose stock is not that of its variants together. A drop without variants passes.';
