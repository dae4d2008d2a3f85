-- inventory.await_purchases: wait until no purchase is under way with these reservations, and hold nothing afterwards.
--
-- Purpose: whoever locks a drop and then waits for a reservation holds up everybody at the drop. So the waiting is done before,
-- with nothing else locked; what comes between the two is a moment, not a buyer's forgotten transaction.
--
-- Locks: the reservations in the order of their ids, let go again before it returns: undoing a block releases the row locks
-- taken in it. Errors: none.
--
-- Plans: as in inventory.expire_on_drop.

create or replace function inventory.await_purchases(p_drop_id uuid, p_reservation_ids uuid[])
returns void
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  perform
  from inventory.reservations r
  where r.id = any (p_reservation_ids) and r.drop_id = p_drop_id
  order by r.id
  for no key update;
  raise exception using errcode = 'LPUND', message = 'undo this block';
exception when sqlstate 'LPUND' then
  return;
end
$$;

comment on function inventory.await_purchases(uuid, uuid[]) is
'Wait until no purchase is under way with these reservations. Holds no lock afterwards.';
