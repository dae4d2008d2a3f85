-- inventory.reserve_baskets: hold units of several drops and variants for each of many baskets: all items of a basket, or none.
--
-- Purpose: the one implementation; api.reserve_basket calls it for one basket, api.reserve_basket_batch for many. The baskets
-- behave as if they came one after the other, in their order.
--
-- Steps: inventory.prepare_drops locks the drops, but none of which no basket can take a unit; inventory.reserve_decisions says
-- which baskets are held; then these are inserted, and inventory.write_holds holds their units.
--
-- Locks, in this order: drop by drop in the order of their ids, as inventory.prepare_drops takes them; the new rows of baskets in
-- the order of user and Idempotency-Key, each behind another transaction that makes one with the same user and key. So baskets
-- cannot deadlock with each other or with anything that locks several drops. The first drop is waited for as long as the caller's
-- lock_timeout allows, because nothing else is locked by then. Every other lock is waited for 100 ms at most, because the drops
-- that are locked already sell nothing meanwhile; then lock_not_available (55P03) is raised, nothing is done for any basket, and
-- the caller may try again. A basket with an item of a drop that sells nothing locks no drop on which nothing is due, so a
-- crowd that asks for what is sold out does not queue. It is refused even if a unit comes back meanwhile.
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
  v_asked record; -- of each item of the others: what is asked for, and the numbers of its basket and of it in that
  v_item record; -- the same of each item that is to be decided; the first basket with its user and key; the id of its basket
  v_drop_ids uuid[];
  v_drops inventory.drops[];
  v_variants inventory.variants[];
  v_due_ids uuid[] := '{}'; -- the drops on which something was due
  v_closed_ids uuid[]; -- the drops of which no unit can be taken, and none is, whatever comes back meanwhile
  v_hopeless_ns integer[]; -- the requests for a unit of one of those
  v_of_drop record; -- the number of a drop, and whether a request that is not hopeless wants it
  v_prepared record;
  v_earlier inventory.baskets[]; -- of each request: the basket that was made with its key
  v_decision record;
  v_basket_ids uuid[] := inventory.new_ids(cardinality(p_requests)); -- of each request, in case it is held
  v_taker_ns integer[]; -- of each request: the number of the one that gets the items
  v_first_ns integer[] := array( -- of each request: the first one of its user with its key, or itself if it has none
    select
      case when q.idempotency_key is null then q.ordinality
        else min(q.ordinality) over (partition by q.user_id, q.idempotency_key) end
    from unnest(p_requests) with ordinality q
    order by q.ordinality
  );
  v_made_count integer;
  v_holds api.reservation_row[];
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
    select
      q.user_id, q.items, q.ordinality as n,
      case
        when (cardinality(q.items) between 1 and 20) is not true then 'items: must be 1 to 20 items'
        when exists (select from unnest(q.items) i group by i.drop_id, i.variant_id having count(*) > 1) then
          'items: two items are the same drop and variant; give one with their qty together'
      end as fault
    from unnest(p_requests) with ordinality q
    offset 0 -- otherwise the fault would be looked for wherever it is used
  ) q
  left join lateral (
    select u.id from inventory.users u where u.id = q.user_id limit 1
  ) known on true;

  select
    coalesce(array_agg(i.hold order by i.n, i.index), '{}') as holds,
    coalesce(array_agg(i.n order by i.n, i.index), '{}') as basket_ns,
    coalesce(array_agg(i.index order by i.n, i.index), '{}') as indexes
  into v_asked
  from (
    select
      row(i.drop_id, q.user_id, null, i.variant_id, i.qty)::api.reserve_request as hold,
      q.ordinality::integer as n,
      i.ordinality::integer - 1 as index
    from unnest(p_requests) with ordinality q
    cross join lateral unnest(q.items) with ordinality i
    where v_request.codes[q.ordinality] is null
  ) i;
  perform inventory.check_reserve_requests(
    array(select row(null, null, q.idempotency_key, null, null)::api.reserve_request from unnest(p_requests) q) || v_asked.holds,
    p_ttl_seconds);

  select
    coalesce(array_agg(wanted.id order by wanted.id), '{}'),
    coalesce(array_agg(d.found order by wanted.id), '{}'),
    coalesce(array_agg(wanted.id order by wanted.id) filter (where inventory.can_sell(d.found) is not true), '{}')
  into v_drop_ids, v_drops, v_closed_ids
  from (select distinct i.drop_id as id from unnest(v_asked.holds) i) wanted
  left join lateral (
    select d as found from inventory.drops d where d.id = wanted.id limit 1
  ) d on true;
  -- An earlier basket may have taken the last unit, so it is looked for after that was seen.
  v_earlier := case when v_has_keys then inventory.earlier_baskets(p_requests) end;
  v_hopeless_ns := array(
    select i.basket_n
    from rows from (unnest(v_asked.holds), unnest(v_asked.basket_ns)) as i (drop_id, user_id, key, variant_id, qty, basket_n)
    where array_position(v_closed_ids, i.drop_id) is not null
  );
  for v_of_drop in
    select array_position(v_drop_ids, i.drop_id) as n, bool_or(i.basket_n <> all (v_hopeless_ns)) as is_wanted
    from rows from (unnest(v_asked.holds), unnest(v_asked.basket_ns)) as i (drop_id, user_id, key, variant_id, qty, basket_n)
    where (v_earlier[i.basket_n]).id is null and array_position(v_closed_ids, i.drop_id) is null
    group by i.drop_id
    order by i.drop_id
  loop
    -- What is due on another drop of a hopeless basket is taken back for it too, because its answer names every refused item.
    continue when not v_of_drop.is_wanted and not inventory.has_due(v_drops[v_of_drop.n]);
    select * into v_prepared from inventory.prepare_drops(v_drop_ids[v_of_drop.n:v_of_drop.n], v_asked.holds);
    v_drops[v_of_drop.n] := v_prepared.drops[1];
    v_due_ids := v_due_ids || v_prepared.due_ids;
    perform set_config('lock_timeout', '100ms', true);
  end loop;
  v_variants := array(select v from inventory.variants v where v.drop_id = any (v_drop_ids) order by v.drop_id, v.id);

  loop
    v_earlier := case when v_has_keys then inventory.earlier_baskets(p_requests) end;
    select
      coalesce(array_agg(i.hold order by i.place), '{}') as holds,
      coalesce(array_agg(i.basket_n order by i.place), '{}') as basket_ns,
      coalesce(array_agg(i.index order by i.place), '{}') as indexes,
      coalesce(array_agg(v_first_ns[i.basket_n] order by i.place), '{}') as first_ns,
      coalesce(array_agg(v_basket_ids[i.basket_n] order by i.place), '{}') as basket_ids
    into v_item
    from (
      select
        unnest(v_asked.holds) as hold, unnest(v_asked.basket_ns) as basket_n, unnest(v_asked.indexes) as index,
        generate_series(1, cardinality(v_asked.holds)) as place
    ) i
    where (v_earlier[i.basket_n]).id is null;
    select * into v_decision
    from inventory.reserve_decisions(v_drop_ids, v_drops, v_variants, v_item.holds, v_item.basket_ns, v_item.first_ns);
    v_taker_ns := array_fill(null::integer, array[coalesce(cardinality(p_requests), 0)]);
    for i in 1 .. cardinality(v_item.basket_ns) loop
      v_taker_ns[v_item.basket_ns[i]] := v_item.basket_ns[v_decision.taker_ns[i]];
    end loop;
    begin
      insert into inventory.baskets (id, user_id, idempotency_key, items)
      select v_basket_ids[q.n], q.user_id, q.idempotency_key, v_request.items[q.n]
      from unnest(p_requests) with ordinality as q (user_id, items, idempotency_key, n)
      where v_taker_ns[q.n] = q.n
      order by q.user_id, q.idempotency_key
      on conflict on constraint baskets_idempotency_key do nothing;
      get diagnostics v_made_count = row_count;
      exit when v_made_count = (select count(*) from unnest(v_taker_ns) with ordinality as t (taker_n, n) where t.taker_n = t.n);
      raise exception using errcode = 'LPUND', message = 'undo this block';
    exception when sqlstate 'LPUND' then
      null; -- another call has made a basket with one of the keys meanwhile, so decide again
    end;
  end loop;
  if v_made_count > 0 then
    v_holds := inventory.write_holds(
      v_drop_ids, v_drops, v_variants, v_item.holds, v_decision.taker_ns, v_decision.drop_ns, v_decision.units, v_due_ids,
      p_ttl_seconds, v_item.basket_ids);
  end if;
  perform set_config('lock_timeout', v_lock_timeout, true);

  return query
  with made as (
    select h.basket_n, array_agg(h.hold order by h.place) as reservations
    from (
      select unnest(v_holds) as hold, unnest(v_item.basket_ns) as basket_n, generate_series(1, cardinality(v_holds)) as place
    ) h
    where (h.hold).id is not null
    group by h.basket_n
  ),
  refused as (
    select
      i.basket_n,
      array_agg(row(i.index, i.code, coalesce(i.message, e.message))::api.refused_item order by i.index) as items
    from unnest(v_item.basket_ns, v_item.indexes, v_decision.codes, v_decision.messages) as i (basket_n, index, code, message)
    join inventory.errors() e on e.code = i.code
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
      unnest(p_requests), unnest(v_request.codes), unnest(v_request.items), unnest(v_taker_ns)
    ) with ordinality as q (user_id, items_asked_for, idempotency_key, code, items, taker_n, n)
    cross join lateral (select v_earlier[q.n] as basket) earlier
  )
  select
    a.n, a.code, coalesce(v_request.messages[a.n], e.message), refused.items,
    a.code is null and a.taker_n is distinct from a.n,
    case
      when a.code is not null then null
      when (a.earlier).id is not null then inventory.basket_row(a.earlier)
      else shown
    end
  from answer a
  left join made on made.basket_n = a.taker_n
  left join lateral inventory.basket_as_shown(v_basket_ids[a.taker_n], a.user_id, now(), made.reservations) shown
    on made.basket_n is not null
  left join refused on refused.basket_n = a.n
  left join inventory.errors() e on e.code = a.code
  order by a.n;
end
$$;

comment on function inventory.reserve_baskets(api.basket_request[], integer) is
'Hold all items of each of many baskets or none of it, in the order given; one outcome per basket, nothing raised for a refusal.';
