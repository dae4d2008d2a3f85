-- inventory.lock_and_expire_holds: lock the holds that purchases should consume, expire the due ones and take their units back.
--
-- Purpose: a step of inventory.purchase_on_drop that is needed only if one of the holds has run out; otherwise a purchase does
-- not touch the drop.
--
-- Locks: if another transaction is handling the same request, this function waits for it, because its result decides the answer.
-- It waits without a lock. Then it locks the drop's row, then all these reservations in the order of their ids. Errors: none.
--
-- Plans: as in inventory.expire_due.

create or replace function inventory.lock_and_expire_holds(p_drop_id uuid, p_live_ids uuid[], p_due_ids uuid[])
returns void
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  perform inventory.await_reservations(p_drop_id, p_live_ids || p_due_ids);
  perform from inventory.drops d where d.id = p_drop_id for no key update;
  perform
  from inventory.reservations r
  where r.id = any (p_live_ids || p_due_ids) and r.drop_id = p_drop_id
  order by r.id
  for no key update;
  perform from inventory.expire_due(p_drop_id, p_due_ids);
end
$$;

comment on function inventory.lock_and_expire_holds(uuid, uuid[], uuid[]) is
'Lock these holds behind the drop, expire the due ones and give their units back.';
