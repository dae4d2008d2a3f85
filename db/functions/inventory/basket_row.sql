-- inventory.basket_row: turn a row of baskets into the row that the API shows, with its reservations as they are by the clock,
-- in the order of its items.
--
-- Locks: none. Errors: none.
-- Plans: see db/README.md, 'Plans'. A basket has at most 20 reservations, and reservations_basket_idx finds them.

create or replace function inventory.basket_row(p_basket inventory.baskets)
returns api.basket_row
language plpgsql stable
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  return (select b from inventory.basket_as_shown(p_basket.id, p_basket.user_id, p_basket.created_at, array(
    select inventory.reservation_row(r)
    from inventory.reservations r
    join rows from (jsonb_to_recordset(p_basket.items) as (drop_id uuid, variant_id uuid)) with ordinality item
      on item.drop_id = r.drop_id and item.variant_id is not distinct from r.variant_id
    where r.basket_id = p_basket.id
    order by item.ordinality
  )) b);
end
$$;

comment on function inventory.basket_row(inventory.baskets) is 'Return a basket as the API shows it, as it is by the clock.';
