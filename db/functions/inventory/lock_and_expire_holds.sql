-- inventory.lock_and_expire_holds: lock the holds that purchases should consume, expire the due ones and take their units back.
--
-- Purpose: a step of inventory.purchase_on_drops that is needed only if one of the holds has run out; otherwise a purchase does
-- not touch its drop.
--
-- Locks: if another transaction is handling the same request, this function waits for it, because its result decides the answer.
-- It waits without a lock. Then it locks the rows of these drops, then all these reservations, both in the order of their ids. Errors: none.
--
-- Plans: as in inventory.expire_due.

create or replace function inventory.lock_and_expire_holds(p_drop_ids uuid[], p_live_ids uuid[], p_due_ids uuid[])
returns void
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_drop_id uuid;
begin
  perform inventory.await_reservations(p_live_ids || p_due_ids);
  perform from inventory.drops d where d.id = any (p_drop_ids) order by d.id for no key update;
  perform
  from inventory.reservations r
  where r.id = any (p_live_ids || p_due_ids)
  order by r.id
  for no key update;
  foreach v_drop_id in array p_drop_ids loop
    perform from inventory.expire_due(v_drop_id, p_due_ids);
  end loop;
end
$$;

comment on function inventory.lock_and_expire_holds(uuid[], uuid[], uuid[]) is
'Lock these holds behind the drops of the due ones, expire the due ones and give their units back.';
