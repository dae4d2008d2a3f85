-- inventory.stock_event: the data of a STOCK_UPDATED event: the stock of a drop, and of those of its variants that changed.
--
-- The stock is as it is by the clock, as in a snapshot: units of due holds count as available. In most commits of a sale nothing
-- is due, and then the rows are read as they are, because the drop as the API shows it takes more than twice as long.
--
-- Locks: none. Errors: none. Plans: as in inventory.drops_with_due.

create or replace function inventory.stock_event(p_drop inventory.drops, p_variant_ids uuid[])
returns json
language plpgsql stable
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_drop api.drop_row;
  v_variants json[];
begin
  if p_drop.nothing_due_before >= now() then
    v_variants := array(
      select to_json(changed)
      from inventory.variants v
      cross join lateral (select v.id, v.available_stock as "availableStock") changed
      where v.drop_id = p_drop.id and v.id = any (p_variant_ids)
      order by v.position, v.id
    );
    if cardinality(v_variants) > 0 then
      return (
        select to_json(e)
        from (select p_drop.id as "dropId", p_drop.available_stock as "availableStock", v_variants as variants) e
      );
    end if;
  end if;
  v_drop := inventory.drop_row(p_drop);
  if v_drop.variants = '{}' then
    return (select to_json(e) from (select v_drop.id as "dropId", v_drop.available_stock as "availableStock") e);
  end if;
  return (
    select to_json(e)
    from (
      select
        v_drop.id as "dropId",
        v_drop.available_stock as "availableStock",
        array(
          select to_json(changed)
          from unnest(v_drop.variants) v
          cross join lateral (select v.id, v.available_stock as "availableStock") changed
          where v.id = any (p_variant_ids)
        ) as variants
    ) e
  );
end
$$;

comment on function inventory.stock_event(inventory.drops, uuid[]) is 'The data of a STOCK_UPDATED event of a drop.';
