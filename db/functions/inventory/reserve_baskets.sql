-- inventory.reserve_baskets: hold units of several drops and variants for each of many baskets: all items of a basket, or none.
--
-- Purpose: the one implementation; api.reserve_basket calls it for one basket, api.reserve_basket_batch for many. The baskets
-- behave as if they came one after the other, in their order.
--
-- Steps: inventory.prepare_drops locks the drops, but none of which no basket can take a unit; inventory.basket_decisions says
-- which baskets are held; then these are inserted and inventory.reserve_on_drops holds their units.
--
-- Locks, in this order: drop by drop in the order of their ids, as inventory.prepare_drops takes them; the new rows of baskets in
-- the order of user and Idempotency-Key, each behind another transaction that makes one with the same user and key. So baskets
-- cannot deadlock with each other or with anything that locks several drops. The first drop is waited for as long as the caller's
-- lock_timeout allows, because nothing else is locked by then. Every other lock is waited for 100 ms at most, because the drops
-- that are locked already sell nothing meanwhile; then lock_not_available (55P03) is raised, nothing is done for any basket, and
-- the caller may try again. A basket with an item of a drop that sells nothing locks no drop on which nothing is due, so a
-- crowd that asks for what is sold out does not queue.
--
-- Errors raised, for all baskets together: VALIDATION_ERROR (a qty, a key, p_ttl_seconds). Each basket has its code:
-- VALIDATION_ERROR (its list of items), AUTH_REQUIRED, IDEMPOTENCY_KEY_REUSED, BASKET_REFUSED. Codes of refused items: see
-- inventory.reserve_on_drops.

create or replace function inventory.reserve_baskets(p_requests api.basket_request[], p_ttl_seconds integer)
returns table (
  n integer, code text, message text, refused_items api.refused_item[], replayed boolean, basket api.basket_row)
language plpgsql rows 10
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_lock_timeout text := current_setting('lock_timeout');
  v_has_keys boolean := exists (select from unnest(p_requests) q where q.idempotency_key is not null);
  v_request record; -- of each request: why it is refused without looking at its items, and its items as they are stored
  v_item record; -- of each item, drop by drop: what is asked for, and the numbers of its drop, of its basket, and of it in that
  v_drop_ids uuid[];
  v_drop inventory.drops;
  v_drops inventory.drops[];
  v_closed_drop_ns integer[] := '{}'; -- the drops of which no unit can be taken
  v_hopeless_ns integer[]; -- the requests for a unit of one of those
  v_needs_all boolean; -- whether the drop is locked for hopeless requests, too
  v_earlier inventory.baskets[]; -- of each request: the basket that was made with its key
  v_is_settled boolean[]; -- of each request: whether its answer is known without looking at its items
  v_decision record;
  v_basket_ids uuid[] := inventory.new_ids(cardinality(p_requests)); -- of each request, in case it is held
  v_made_count integer;
  v_of_drop record;
  v_held record;
  v_taken record; -- the items of the baskets that are held, the ids of their baskets, and the place of each among all items
  v_reservations api.reservation_row[] := '{}'; -- the new holds, in the same order
begin
  select
    array_agg(
      case when q.fault is not null then 'VALIDATION_ERROR' when known.id is null then 'AUTH_REQUIRED' end order by q.n) as codes,
    array_agg(q.fault order by q.n) as messages,
    array_agg(
      case when q.fault is null then
        to_jsonb(array(
          select row(i.drop_id, i.variant_id, coalesce(i.qty, 1))::api.basket_item
          from unnest(q.items) with ordinality i
          order by i.ordinality
        ))
      end order by q.n) as items
  into v_request
  from (
    select q.user_id, q.items, q.ordinality as n, inventory.basket_fault(q.items) as fault
    from unnest(p_requests) with ordinality q
    offset 0 -- otherwise the function would be called wherever its result is used
  ) q
  left join lateral (
    select u.id from inventory.users u where u.id = q.user_id limit 1
  ) known on true;

  select
    coalesce(array_agg(i.hold order by i.drop_n, i.n, i.index), '{}') as holds,
    coalesce(array_agg(i.drop_n order by i.drop_n, i.n, i.index), '{}') as drop_ns,
    coalesce(array_agg(i.n order by i.drop_n, i.n, i.index), '{}') as basket_ns,
    coalesce(array_agg(i.index order by i.drop_n, i.n, i.index), '{}') as indexes
  into v_item
  from (
    select
      row(i.drop_id, q.user_id, null, i.variant_id, i.qty)::api.reserve_request as hold,
      dense_rank() over (order by i.drop_id)::integer as drop_n,
      q.ordinality::integer as n,
      i.ordinality::integer - 1 as index
    from unnest(p_requests) with ordinality q
    cross join lateral unnest(q.items) with ordinality i
    where v_request.codes[q.ordinality] is null
  ) i;
  v_drop_ids := array(select distinct (i.hold).drop_id from (select unnest(v_item.holds) as hold) i order by (i.hold).drop_id);
  perform inventory.check_reserve_requests(
    array(select row(null, null, q.idempotency_key, null, null)::api.reserve_request from unnest(p_requests) q) || v_item.holds,
    p_ttl_seconds);

  for i in 1 .. cardinality(v_drop_ids) loop
    select * into v_drop from inventory.drops d where d.id = v_drop_ids[i];
    v_drops[i] := v_drop;
    if not inventory.can_sell(v_drop) then
      v_closed_drop_ns := v_closed_drop_ns || i;
    end if;
  end loop;
  v_hopeless_ns := array(
    select i.basket_n from unnest(v_item.drop_ns, v_item.basket_ns) as i (drop_n, basket_n)
    where i.drop_n = any (v_closed_drop_ns)
  );
  -- An earlier basket may have taken the last unit, so it is looked for after that was seen.
  v_earlier := case when v_has_keys then inventory.earlier_baskets(p_requests) end;
  for i in 1 .. cardinality(v_drop_ids) loop
    -- What is due on another drop of a hopeless basket is taken back for it too, because its answer names every refused item.
    v_needs_all := v_hopeless_ns <> '{}' and inventory.has_due(v_drops[i]);
    select array_agg(item.hold order by item.place) as holds
    into v_of_drop
    from (
      select
        unnest(v_item.holds) as hold, unnest(v_item.drop_ns) as drop_n, unnest(v_item.basket_ns) as basket_n,
        generate_series(1, cardinality(v_item.drop_ns)) as place
    ) item
    where item.drop_n = i and (v_needs_all or item.basket_n <> all (v_hopeless_ns)) and (v_earlier[item.basket_n]).id is null;
    continue when v_of_drop.holds is null;
    v_drops[i] := (select p.drops[1] from inventory.prepare_drops(array[v_drop_ids[i]], v_of_drop.holds) p);
    perform set_config('lock_timeout', '100ms', true);
  end loop;

  loop
    v_earlier := case when v_has_keys then inventory.earlier_baskets(p_requests) end;
    v_is_settled := array(
      select c.code is not null or (v_earlier[c.n]).id is not null
      from unnest(v_request.codes) with ordinality as c (code, n)
      order by c.n
    );
    select * into v_decision
    from inventory.basket_decisions(
      v_drop_ids, v_drops, v_item.holds, v_item.drop_ns, v_item.basket_ns, p_requests, v_is_settled);
    begin
      insert into inventory.baskets (id, user_id, idempotency_key, items)
      select v_basket_ids[q.n], q.user_id, q.idempotency_key, v_request.items[q.n]
      from unnest(p_requests) with ordinality as q (user_id, items, idempotency_key, n)
      where v_decision.taker_ns[q.n] = q.n
      order by q.user_id, q.idempotency_key
      on conflict on constraint baskets_idempotency_key do nothing;
      get diagnostics v_made_count = row_count;
      exit when v_made_count =
        (select count(*) from unnest(v_decision.taker_ns) with ordinality as t (taker_n, n) where t.taker_n = t.n);
      raise exception using errcode = 'LPUND', message = 'undo this block';
    exception when sqlstate 'LPUND' then
      null; -- another call has made a basket with one of the keys meanwhile, so decide again
    end;
  end loop;

  select
    array_agg(item.hold order by item.place) as holds,
    array_agg(v_basket_ids[item.basket_n] order by item.place) as basket_ids,
    array_agg(item.place order by item.place) as places
  into v_taken
  from (
    select unnest(v_item.holds) as hold, unnest(v_item.basket_ns) as basket_n, generate_series(1, cardinality(v_item.holds)) as place
  ) item
  where v_decision.taker_ns[item.basket_n] = item.basket_n;
  if v_taken.holds is not null then
    select array_agg(o.reservation order by o.n) as reservations, count(o.code) as refused_count
    into v_held
    from inventory.reserve_on_drops(v_taken.holds, p_ttl_seconds, v_taken.basket_ids) o;
    -- It takes back what is due once more. If a purchase had locked a hold of one of these users until now, that one may wait.
    if v_held.refused_count > 0 then
      raise lock_not_available using message = 'a hold was locked by another transaction; try again';
    end if;
    v_reservations := v_held.reservations;
  end if;
  perform set_config('lock_timeout', v_lock_timeout, true);

  return query
  with made as (
    select v_item.basket_ns[r.place] as basket_n, array_agg(r.reservation order by v_item.indexes[r.place]) as reservations
    from (select unnest(v_reservations) as reservation, unnest(v_taken.places) as place) r
    group by v_item.basket_ns[r.place]
  ),
  refused as (
    select
      i.basket_n,
      array_agg(row(i.index, i.code, coalesce(i.message, e.message))::api.refused_item order by i.index) as items
    from unnest(v_item.basket_ns, v_item.indexes, v_decision.codes, v_decision.messages) as i (basket_n, index, code, message)
    join api.errors() e on e.code = i.code
    group by i.basket_n
  ),
  answer as (
    select
      q.n::integer, q.user_id, q.taker_n, earlier.basket as earlier,
      case
        when q.code is not null then q.code
        when coalesce((earlier.basket).items, v_request.items[q.taker_n]) <> q.items then 'IDEMPOTENCY_KEY_REUSED'
        when (earlier.basket).id is null and q.taker_n is null then 'BASKET_REFUSED'
      end as code
    from rows from (
      unnest(p_requests), unnest(v_request.codes), unnest(v_request.items), unnest(v_decision.taker_ns)
    ) with ordinality as q (user_id, items_asked_for, idempotency_key, code, items, taker_n, n)
    cross join lateral (select v_earlier[q.n] as basket) earlier
  )
  select
    a.n, a.code, coalesce(v_request.messages[a.n], e.message), refused.items,
    a.code is null and a.taker_n is distinct from a.n,
    case
      when a.code is not null then null
      when (a.earlier).id is not null then inventory.basket_row(a.earlier)
      else inventory.basket_as_shown(
        row(v_basket_ids[a.taker_n], a.user_id, null, null, now())::inventory.baskets, made.reservations)
    end
  from answer a
  left join made on made.basket_n = a.taker_n
  left join refused on refused.basket_n = a.n
  left join api.errors() e on e.code = a.code
  order by a.n;
end
$$;

comment on function inventory.reserve_baskets(api.basket_request[], integer) is
'Hold all items of each of many baskets or none of it, in the order given; one outcome per basket, nothing raised for a refusal.';
