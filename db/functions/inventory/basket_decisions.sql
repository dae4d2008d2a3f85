-- inventory.basket_decisions: decide which of many baskets get all their items, and why items of the others are refused.
--
-- Purpose: a step of inventory.reserve_baskets. It reads and decides, and writes nothing. The baskets are decided one after the
-- other, in their order, with the stock and the limits that those before have left. The items of a basket that is refused count
-- for its own later items, and for no other basket. The rule is that of a single request, inventory.reserve_refusal.
--
-- What is given:
--   p_drop_ids    the ids of the drops
--   p_drops       the drops, as inventory.prepare_drops returns them; null: there is none
--   p_holds       what is asked for, an element an item: drop by drop and, of a drop, in the order of the baskets and their items
--   p_drop_ns     for each item the number of its drop
--   p_basket_ns   for each item the number of its basket
--   p_requests    the baskets
--   p_is_settled  for each basket whether its answer is known already, so that it needs no units
--
-- The answer:
--   codes, messages  for each item its refusal, and a sentence that is more precise than that of the code, or null
--   taker_ns         for each basket its own number if it gets its items; the number of an earlier basket of the same user with
--                    the same Idempotency-Key, if that one gets its items; else null
--
-- Locks: none. Errors: none. Plans: the caller's settings are in force. No argument of inventory.reserve_facts is a subquery,
-- because then PostgreSQL would plan that function at every call.

create or replace function inventory.basket_decisions(
  p_drop_ids uuid[],
  p_drops inventory.drops[],
  p_holds api.reserve_request[],
  p_drop_ns integer[],
  p_basket_ns integer[],
  p_requests api.basket_request[],
  p_is_settled boolean[],
  out codes text[],
  out messages text[],
  out taker_ns integer[]
)
language plpgsql stable
as $$
declare
  v_drop inventory.drops;
  v_variants inventory.variants[];
  v_variant_drop_ids uuid[];
  v_variant_ids uuid[];
  v_of_drop record; -- what is asked for of one drop: the requests, their users, and their places in p_holds
  v_facts inventory.item_facts[] := '{}';
  v_stock integer[] := '{}'; -- of the variants of one drop after the other, or of the drop if it has none
  v_stock_before integer[]; -- as it was before the basket
  v_takes boolean[]; -- for each item whether it takes its units
  v_places integer[] := '{}'; -- the items of the basket so far
  v_is_refused boolean := false; -- whether one of them is
  v_user_ids uuid[] := array(select h.user_id from unnest(p_holds) h);
  v_first_ns integer[] := array( -- for each basket the first one of its user with its key
    select
      case when q.idempotency_key is null then q.ordinality
        else min(q.ordinality) over (partition by q.user_id, q.idempotency_key) end
    from unnest(p_requests) with ordinality q
    order by q.ordinality
  );
  v_place integer;
  v_code text;
  f record;
begin
  -- An array that is empty would begin at the first number that is written to, not at 1.
  codes := array_fill(null::text, array[cardinality(p_holds)]);
  messages := codes;
  taker_ns := array_fill(null::integer, array[coalesce(cardinality(p_requests), 0)]);
  v_takes := array_fill(false, array[cardinality(p_holds)]);

  for i in 1 .. cardinality(p_drop_ids) loop
    select
      array_agg(item.hold order by item.place) as holds,
      array_agg((item.hold).user_id order by item.place) as user_ids,
      array_agg(item.place order by item.place) as places
    into v_of_drop
    from (
      select
        unnest(p_holds) as hold, unnest(p_drop_ns) as drop_n, unnest(p_basket_ns) as basket_n,
        generate_series(1, cardinality(p_holds)) as place
    ) item
    where item.drop_n = i and not p_is_settled[item.basket_n];
    continue when v_of_drop.places is null;

    v_drop := p_drops[i];
    v_variants := array(select v from inventory.variants v where v.drop_id = p_drop_ids[i] order by v.id);
    v_variant_drop_ids := array(select v.drop_id from unnest(v_variants) v);
    v_variant_ids := array(select v.id from unnest(v_variants) v);
    v_facts := v_facts || array(
      select
        row(
          v_of_drop.places[fact.n], p_basket_ns[v_of_drop.places[fact.n]], fact.user_id, fact.variant_id, fact.qty,
          v_of_drop.places[fact.first_of_user],
          cardinality(v_stock) + case when v_variants = '{}' then fact.stock_n else fact.stock_n - 1 end, fact.user_exists,
          inventory.drop_refusal(v_drop), fact.holds, term.units, v_drop.limit_per_user, term.may_hold_at)::inventory.item_facts
      from inventory.reserve_facts(
        array[p_drop_ids[i]], array[v_variants <> '{}'], v_variant_drop_ids, v_variant_ids, v_of_drop.user_ids, v_of_drop.holds) fact
      join inventory.term_facts(
        array[p_drop_ids[i]], array[v_drop.limit_per_user], array[v_drop.rehold_after_seconds], v_of_drop.holds) term
        on term.n = fact.n
    );
    v_stock := v_stock || case
      when v_variants = '{}' then array[v_drop.available_stock]
      -- If the drop is sold out it is not locked, and what came back to a variant meanwhile cannot be taken.
      else array(select least(v.available_stock, v_drop.available_stock) from unnest(v_variants) v)
    end;
  end loop;

  for f in
    select fact.*, lead(fact.basket_n) over basket_by_basket is distinct from fact.basket_n as ends_basket
    from unnest(v_facts) fact
    window basket_by_basket as (order by fact.basket_n, fact.place)
    order by fact.basket_n, fact.place
  loop
    if v_places = '{}' then
      v_stock_before := v_stock;
      for i in v_first_ns[f.basket_n] .. f.basket_n - 1 loop
        if taker_ns[i] = i and (p_requests[i]).user_id = f.user_id
          and (p_requests[i]).idempotency_key = (p_requests[f.basket_n]).idempotency_key then
          taker_ns[f.basket_n] := i;
        end if;
      end loop;
    end if;
    continue when taker_ns[f.basket_n] is not null;

    for i in f.first_place_of_user .. f.place - 1 loop
      continue when not v_takes[i] or v_user_ids[i] <> f.user_id;
      f.units := f.units + coalesce((p_holds[i]).qty, 1);
      f.holds := f.holds or (p_holds[i]).variant_id is not distinct from f.variant_id;
    end loop;
    v_code := inventory.reserve_refusal(
      f.user_exists, f.drop_refusal, f.stock_n, f.holds, f.units, f.limit_per_user, f.may_hold_at, v_stock[f.stock_n], f.qty);
    v_places := v_places || f.place;
    if v_code is null then
      v_stock[f.stock_n] := v_stock[f.stock_n] - f.qty;
      v_takes[f.place] := true;
    else
      v_is_refused := true;
      codes[f.place] := v_code;
      messages[f.place] := inventory.reserve_sentence(
        v_code, f.variant_id, f.units, f.limit_per_user, f.may_hold_at, v_stock[f.stock_n]);
    end if;

    continue when not f.ends_basket;
    if not v_is_refused then
      taker_ns[f.basket_n] := f.basket_n;
    else
      v_stock := v_stock_before;
      foreach v_place in array v_places loop
        v_takes[v_place] := false;
      end loop;
    end if;
    v_places := '{}';
    v_is_refused := false;
  end loop;
end
$$;

comment on function inventory.basket_decisions(
  uuid[], inventory.drops[], api.reserve_request[], integer[], integer[], api.basket_request[], boolean[]) is
'Which of many baskets get all their items, one after the other, and why items of the others are refused. Writes nothing.';
