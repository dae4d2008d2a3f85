-- inventory.reserve_decisions: decide what becomes of each reserve request: units, a replay or a refusal.
--
-- Purpose: a step of inventory.reserve_on_drops and inventory.reserve_baskets. It reads and decides, and writes nothing. p_drops are
-- the drops of the requests, as inventory.prepare_drops returns them for p_drop_ids, and p_variants are theirs.
--
-- The requests are decided one after the other, in their order. Each gets all the units that it asks for or none, so a request
-- for three may be refused and the next one, for the last unit, may be served.
--
-- The requests may be items of baskets, one basket after the other, without keys of their own. Then a basket gets all its items or
-- none. While it is decided, its items count for those after them; what a refused basket took is put back before the next one.
--   p_basket_ns  for each request the number of its basket
--   p_first_ns   for each request the first basket of the same user with the same Idempotency-Key, or its own
--
-- The answer has an element for each request in each of these arrays:
--   codes       the refusal, or null
--   messages    a sentence that is more precise than that of the code, or null
--   taker_ns    the number of the request that takes the units: its own, or that of an earlier one in this call with the same
--               Idempotency-Key (of its basket with the same one); null if it takes none
--   drop_ns     the place of its drop in p_drop_ids
--   earlier     the reservation of an earlier call with the same Idempotency-Key, or null
-- The array units has an element for each drop and then one for each variant. It says how many units are taken of it in all.
--
-- Locks: none. Errors: none. A repeated Idempotency-Key is no error, not even if the drop is over: the answer is the first
-- reservation as it is now. It is one if it asks for something else.
--
-- Plans: the caller's settings are in force, see inventory.reserve_on_drops.

create or replace function inventory.reserve_decisions(
  p_drop_ids uuid[],
  p_drops inventory.drops[],
  p_variants inventory.variants[],
  p_requests api.reserve_request[],
  p_basket_ns integer[] default null,
  p_first_ns integer[] default null,
  out codes text[],
  out messages text[],
  out taker_ns integer[],
  out drop_ns integer[],
  out earlier api.reservation_row[],
  out units integer[]
)
language plpgsql stable
as $$
declare
  v_count integer := coalesce(cardinality(p_requests), 0);
  v_user_ids uuid[] := array[p_requests[1].user_id];
  v_variant_drop_ids uuid[] := '{}';
  v_variant_ids uuid[] := '{}';
  v_drop record;      -- arrays with an element for each drop: why it refuses every request, and its terms
  v_stock integer[];  -- what is left of each drop and, after them, of each variant
  v_user_units integer[];      -- for each request, if the drops have such terms: what its user has,
  v_may_hold_at timestamptz[]; -- and when that user may hold units again
  v_units integer;
  v_repeated_n integer; -- an earlier request of this call that took units with the same Idempotency-Key
  v_code text;
  v_begin_n integer;            -- of the basket: its first item,
  v_taker_n integer;            -- an item of an earlier basket that it repeats,
  v_is_refused boolean;         -- whether one of its items is refused,
  v_stock_before integer[];     -- and what was left before it,
  v_units_before integer[];     -- and had been taken
  f record;
begin
  if v_count <> 1 then
    v_user_ids := array(select q.user_id from unnest(p_requests) q);
  end if;
  if p_variants <> '{}' then
    v_variant_drop_ids := array(select v.drop_id from unnest(p_variants) v);
    v_variant_ids := array(select v.id from unnest(p_variants) v);
  end if;
  select
    array_agg(inventory.drop_refusal(d)) as refusals,
    array_agg(d.id = any (v_variant_drop_ids)) as has_variants,
    array_agg(d.limit_per_user) as limits,
    array_agg(d.rehold_after_seconds) as rehold_after_seconds,
    bool_or(d.limit_per_user is not null or d.rehold_after_seconds > 0) as have_terms,
    array_agg(d.available_stock) as stock
  into v_drop
  from unnest(p_drops) d;
  v_stock := v_drop.stock;
  if v_variant_ids <> '{}' then
    v_stock := v_stock || array(
      -- If the drop is sold out it is not locked, and what came back to a variant meanwhile cannot be taken.
      select least(v.available_stock, v_drop.stock[array_position(p_drop_ids, v.drop_id)]) from unnest(p_variants) v
    );
  end if;
  if v_drop.have_terms then
    select array_agg(t.units order by t.n), array_agg(t.may_hold_at order by t.n) into v_user_units, v_may_hold_at
    from inventory.term_facts(p_drop_ids, v_drop.limits, v_drop.rehold_after_seconds, p_requests) t;
  end if;
  -- An array that is empty would begin at the first number that is written to, not at 1.
  codes := array_fill(null::text, array[v_count]);
  messages := codes;
  taker_ns := array_fill(null::integer, array[v_count]);
  drop_ns := taker_ns;
  units := array_fill(0, array[cardinality(p_drop_ids) + cardinality(v_variant_ids)]);
  for f in
    select *
    from inventory.reserve_facts(p_drop_ids, v_drop.has_variants, v_variant_drop_ids, v_variant_ids, v_user_ids, p_requests)
  loop
    drop_ns[f.n] := f.drop_n;
    if p_basket_ns[f.n] is distinct from p_basket_ns[f.n - 1] then
      v_begin_n := f.n;
      v_taker_n := null;
      for i in 1 .. f.n - 1 loop
        exit when p_first_ns[f.n] = p_basket_ns[f.n] or v_taker_n is not null;
        v_taker_n := case when p_first_ns[i] = p_first_ns[f.n] then taker_ns[i] end;
      end loop;
      v_is_refused := false;
      v_stock_before := v_stock;
      v_units_before := units;
    end if;
    if v_taker_n is not null then
      taker_ns[f.n] := v_taker_n;
      continue;
    end if;

    v_repeated_n := null;
    v_units := v_user_units[f.n];
    if f.first_of_user < f.n then
      for i in f.first_of_user .. f.n - 1 loop
        continue when taker_ns[i] is distinct from i or v_user_ids[i] <> f.user_id or drop_ns[i] <> f.drop_n;
        v_units := v_units + coalesce((p_requests[i]).qty, 1);
        f.holds := f.holds or (p_requests[i]).variant_id is not distinct from f.variant_id;
        v_repeated_n := case when (p_requests[i]).idempotency_key = f.idempotency_key then i else v_repeated_n end;
      end loop;
    end if;

    if (f.earlier).id is not null then
      if (f.earlier).variant_id is distinct from f.variant_id or (f.earlier).qty <> f.qty then
        codes[f.n] := 'IDEMPOTENCY_KEY_REUSED';
      else
        earlier[f.n] := f.earlier;
      end if;
    elsif v_repeated_n is not null then
      if (p_requests[v_repeated_n]).variant_id is distinct from f.variant_id
        or coalesce((p_requests[v_repeated_n]).qty, 1) <> f.qty then
        codes[f.n] := 'IDEMPOTENCY_KEY_REUSED';
      else
        taker_ns[f.n] := v_repeated_n;
      end if;
    else
      v_code := inventory.reserve_refusal(
        f.user_exists, v_drop.refusals[f.drop_n], f.stock_n, f.holds, v_units, v_drop.limits[f.drop_n], v_may_hold_at[f.n],
        v_stock[f.stock_n], f.qty);
      if v_code is null then
        units[f.drop_n] := units[f.drop_n] + f.qty;
        if f.stock_n > cardinality(p_drop_ids) then
          units[f.stock_n] := units[f.stock_n] + f.qty;
        end if;
        v_stock[f.stock_n] := v_stock[f.stock_n] - f.qty;
        taker_ns[f.n] := f.n;
      else
        codes[f.n] := v_code;
        messages[f.n] := inventory.reserve_sentence(
          v_code, f.variant_id, v_units, v_drop.limits[f.drop_n], v_may_hold_at[f.n], v_stock[f.stock_n]);
        v_is_refused := true;
      end if;
    end if;
    if v_is_refused and p_basket_ns[f.n] is distinct from p_basket_ns[f.n + 1] then
      v_stock := v_stock_before;
      units := v_units_before;
      taker_ns[v_begin_n:f.n] := array_fill(null::integer, array[f.n - v_begin_n + 1]);
    end if;
  end loop;
end
$$;

comment on function
inventory.reserve_decisions(uuid[], inventory.drops[], inventory.variants[], api.reserve_request[], integer[], integer[]) is
'What becomes of each reserve request, one after the other. Reads and decides, writes nothing.';
