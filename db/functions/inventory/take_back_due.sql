-- inventory.take_back_due: take back what is due on a drop, for these requests of it.
--
-- Purpose: a step of inventory.prepare_drops. Due holds are taken back even if there is plenty of stock, because the sweep does
-- not wait for the lock of a busy drop. The users' own due holds go first, because an ACTIVE hold, due or not, is in the way of
-- its user's next one. Then go the oldest, as many as the requests have units, and more while a variant that is asked for has too
-- few, because the oldest may be of other variants. Pending purchases whose payment is due are taken back in the same way.
--
-- Locks: the caller holds the drop's row; due reservations, purchases and payments, with skip locked. Errors: none.

create or replace function inventory.take_back_due(p_drop inventory.drops, p_requests api.reserve_request[])
returns void
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_own_due_ids uuid[];
  v_due_ids uuid[];
  v_expired integer; -- pending purchases
  v_limit integer := (select least(sum(coalesce(q.qty, 1)), 100000) from unnest(p_requests) q);
begin
  v_own_due_ids := array(
    select own_hold.id
    from unnest(p_requests) q
    cross join lateral (
      select r.id
      from inventory.reservations r
      where r.drop_id = p_drop.id and r.user_id = q.user_id and r.status = 'ACTIVE' and r.expires_at <= now()
      limit 200 -- a drop has no more variants
    ) own_hold
  );
  perform from inventory.expire_due(p_drop.id, v_own_due_ids);
  loop
    v_due_ids := inventory.lock_due_reservations(p_drop, v_limit);
    perform from inventory.expire_due(p_drop.id, v_due_ids);
    v_expired := inventory.expire_due_purchases(p_drop, v_limit);
    exit when (cardinality(v_due_ids) < v_limit and v_expired < v_limit) or not exists (
      select
      from inventory.variants v
      where v.drop_id = p_drop.id
        and v.available_stock < (select sum(coalesce(q.qty, 1)) from unnest(p_requests) q where q.variant_id = v.id)
    );
    v_limit := greatest(1000, least(4 * v_limit, 100000)); -- each look passes over those of the last
  end loop;
end
$$;

comment on function inventory.take_back_due(inventory.drops, api.reserve_request[]) is
'Take back what is due on a drop, for these requests of it. The caller holds the drop''s lock.';
