-- inventory.drop_row: turn a row of drops into the row that the API shows, as it is by the clock.
--
-- Purpose: every read and every event shows a drop so: a hold that is due counts as stock, a drop whose time has come is live or
-- ended, whether or not the sweep has come by.
--
-- Locks: none. Errors: none. Plans: as in inventory.has_due.

create or replace function inventory.drop_row(p_drop inventory.drops)
returns api.drop_row
language plpgsql stable
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_due jsonb; -- units of due holds by variant
  v_variants api.variant_row[];
begin
  if inventory.has_due(p_drop) then
    v_due := (select jsonb_object_agg(coalesce(u.variant_id::text, ''), u.units) from inventory.due_units(p_drop) u);
    p_drop.available_stock := p_drop.available_stock + (select sum(e.value::integer) from jsonb_each_text(v_due) e);
  end if;
  v_variants := array(
    select row(
      v.id, v.name, coalesce(v.price, p_drop.price), v.total_stock,
      v.available_stock + coalesce((v_due ->> v.id::text)::integer, 0))::api.variant_row
    from inventory.variants v
    where v.drop_id = p_drop.id
    order by v.position, v.id
  );
  return row(
    p_drop.id, p_drop.name, p_drop.price, p_drop.currency, p_drop.total_stock, p_drop.available_stock, v_variants,
    p_drop.starts_at, p_drop.ends_at, inventory.status_now(p_drop), p_drop.paused_at, p_drop.limit_per_user, p_drop.hold_seconds,
    p_drop.rehold_after_seconds, p_drop.extension_seconds, p_drop.revision, p_drop.created_by, p_drop.created_at, p_drop.updated_at
  )::api.drop_row;
end
$$;

comment on function inventory.drop_row(inventory.drops) is 'Return a drop as the API shows it, as it is by the clock.';
