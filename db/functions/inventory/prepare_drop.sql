-- inventory.prepare_drop: get a drop ready for these reserve requests, and return its row as they will find it.
--
-- Purpose: the first step of inventory.reserve_on_drop. The drop is locked only if a unit can be taken from it: when it is on
-- sale and has stock, or has holds that are due and can be taken back. Otherwise nothing is locked or written, so a crowd that
-- asks for a drop that is sold out does not queue. A drop that does not exist is a row of nulls.
--
-- Due holds are taken back here even if there is plenty of stock, because the sweep does not wait for the lock of a busy drop.
-- The users' own due holds go first, because an ACTIVE hold, due or not, is in the way of its user's next one. Then go the oldest,
-- as many as the requests have units, and more while a variant that is asked for has too few, because the oldest may be of other
-- variants. If nothing was due, nothing_due_before of the row that is returned is the present time.
--
-- Locks, in this order: the drop's row; due reservations, with skip locked. Errors: none.

create or replace function inventory.prepare_drop(p_drop_id uuid, p_requests api.reserve_request[])
returns inventory.drops
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_drop inventory.drops;
  v_own_due_ids uuid[];
  v_due_ids uuid[];
  v_limit integer := (select least(sum(coalesce(q.qty, 1)), 100000) from unnest(p_requests) q);
begin
  select * into v_drop from inventory.drops d where d.id = p_drop_id;
  if not inventory.can_sell(v_drop) then
    return v_drop;
  end if;

  -- Both questions are asked again under the lock, because the answers may have changed while this call waited for it.
  select * into v_drop from inventory.drops d where d.id = p_drop_id for no key update;
  if not inventory.is_on_sale(v_drop) then
    return v_drop;
  end if;
  if not inventory.has_due(v_drop) then
    v_drop.nothing_due_before := greatest(v_drop.nothing_due_before, now());
    return v_drop;
  end if;
  v_own_due_ids := array(
    select own_hold.id
    from unnest(p_requests) q
    cross join lateral (
      select r.id
      from inventory.reservations r
      where r.drop_id = p_drop_id and r.user_id = q.user_id and r.status = 'ACTIVE' and r.expires_at <= now()
      limit 200 -- a drop has no more variants
    ) own_hold
  );
  perform from inventory.expire_due(p_drop_id, v_own_due_ids);
  loop
    v_due_ids := inventory.lock_due_reservations(v_drop, v_limit);
    perform from inventory.expire_due(p_drop_id, v_due_ids);
    exit when cardinality(v_due_ids) < v_limit or not exists (
      select
      from inventory.variants v
      where v.drop_id = p_drop_id
        and v.available_stock < (select sum(coalesce(q.qty, 1)) from unnest(p_requests) q where q.variant_id = v.id)
    );
    v_limit := greatest(1000, least(4 * v_limit, 100000)); -- each look passes over those of the last
  end loop;
  select * into v_drop from inventory.drops d where d.id = p_drop_id;
  return v_drop;
end
$$;

comment on function inventory.prepare_drop(uuid, api.reserve_request[]) is
'The drop as these requests will find it: locked, and what is due taken back, but only if a unit can be taken.';
