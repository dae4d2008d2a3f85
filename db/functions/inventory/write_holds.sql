-- inventory.write_holds: write what inventory.reserve_decisions has decided: the holds, and the stock that is left.
--
-- Purpose: the last step of inventory.reserve_on_drops and inventory.reserve_baskets. It returns the new hold of each request that
-- takes units, and null for each other one. A hold keeps the unit price and the currency of this moment. It lasts hold_seconds of
-- its drop, or else p_ttl_seconds.
--
-- What is given:
--   p_drop_ids, p_drops, p_variants, p_requests   as inventory.reserve_decisions got them
--   p_taker_ns, p_drop_ns, p_units                as it answered
--   p_due_ids                                     the drops on which something was due, see inventory.prepare_drops
--   p_basket_ids                                  of each request, if they are items of baskets
--
-- Locks: the caller holds the rows of the drops. Every hold is inserted under the drop's lock, so its unique keys never collide.
-- Errors: none.
--
-- Plans: the caller's settings are in force, see inventory.reserve_on_drops. lastpair.is_by_hand spares the trigger
-- inventory.note_reservations a look-up of each user, because a request takes units only if inventory.reserve_facts found its user.

create or replace function inventory.write_holds(
  p_drop_ids uuid[],
  p_drops inventory.drops[],
  p_variants inventory.variants[],
  p_requests api.reserve_request[],
  p_taker_ns integer[],
  p_drop_ns integer[],
  p_units integer[],
  p_due_ids uuid[],
  p_ttl_seconds integer,
  p_basket_ids uuid[] default null
)
returns api.reservation_row[]
language plpgsql
as $$
declare
  v_drop record; -- arrays with an element for each drop: its price, its currency, and when a hold of it ends
  v_new_ids uuid[] := inventory.new_ids(cardinality(p_requests)); -- an id for each request, in case it takes units
  v_variant_ids uuid[];
  v_variant_prices numeric[]; -- null for a variant that has none of its own
  v_holds api.reservation_row[];
  v_is_by_hand text := set_config('lastpair.is_by_hand', 'off', true);
begin
  select
    array_agg(d.price) as prices,
    array_agg(d.currency) as currencies,
    array_agg(now() + make_interval(secs => coalesce(d.hold_seconds, p_ttl_seconds))) as expires_at
  into v_drop
  from unnest(p_drops) d;
  if p_variants <> '{}' then
    v_variant_ids := array(select v.id from unnest(p_variants) v);
    v_variant_prices := array(select v.price from unnest(p_variants) v);
    update inventory.variants v
    set
      available_stock = v.available_stock - p_units[cardinality(p_drop_ids) + array_position(v_variant_ids, v.id)],
      updated_at = now()
    where v.drop_id = any (p_drop_ids)
      and v.id = any (v_variant_ids)
      and p_units[cardinality(p_drop_ids) + array_position(v_variant_ids, v.id)] > 0;
  end if;

  with hold as materialized (
    select
      q.n, q.drop_id, q.user_id, q.variant_id, coalesce(q.qty, 1) as qty, q.idempotency_key, q.taker_n = q.n as takes_units,
      coalesce(v_variant_prices[array_position(v_variant_ids, q.variant_id)], v_drop.prices[q.drop_n]) as unit_price,
      v_drop.currencies[q.drop_n] as currency,
      v_drop.expires_at[q.drop_n] as expires_at
    from rows from (unnest(p_requests), unnest(p_taker_ns), unnest(p_drop_ns))
      with ordinality as q (drop_id, user_id, idempotency_key, variant_id, qty, taker_n, drop_n, n)
  ),
  new_hold as (
    insert into inventory.reservations (
      id, drop_id, variant_id, user_id, basket_id, qty, unit_price, currency, expires_at, idempotency_key)
    select
      v_new_ids[h.n], h.drop_id, h.variant_id, h.user_id, p_basket_ids[h.n], h.qty, h.unit_price, h.currency, h.expires_at,
      h.idempotency_key
    from hold h
    where h.takes_units
    order by h.n
  ),
  stock_taken as (
    update inventory.drops d
    set
      available_stock = d.available_stock - p_units[array_position(p_drop_ids, d.id)],
      -- Nothing was due until now, unless something was taken back.
      nothing_due_before = least(
        case when d.id = any (p_due_ids) then d.nothing_due_before else greatest(d.nothing_due_before, now()) end,
        v_drop.expires_at[array_position(p_drop_ids, d.id)]),
      updated_at = now()
    where d.id = any (p_drop_ids) and p_units[array_position(p_drop_ids, d.id)] > 0
  )
  select
    array_agg(
      case when h.takes_units then
        row(
          v_new_ids[h.n], h.drop_id, h.variant_id, h.user_id, p_basket_ids[h.n], h.qty, h.unit_price, h.currency,
          h.qty * h.unit_price, 'ACTIVE', h.expires_at, null, now(), now())::api.reservation_row
      end order by h.n)
  into v_holds
  from hold h;
  v_is_by_hand := set_config('lastpair.is_by_hand', 'on', true);
  return v_holds;
end
$$;

comment on function inventory.write_holds(
  uuid[], inventory.drops[], inventory.variants[], api.reserve_request[], integer[], integer[], integer[], uuid[], integer, uuid[]) is
'Write the holds that were decided and take their units from the stock; return the new hold of each request, or null.';
