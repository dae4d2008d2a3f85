-- inventory.await_reservations: wait until no purchase of these reservations is in progress, then hold no lock.
--
-- Purpose: a transaction that locks a drop and then waits for a reservation blocks all buyers of the drop. So callers wait here
-- first, before they lock anything else. A purchase can still come in between, but that takes a moment; what this avoids is
-- waiting for a transaction that a buyer forgot to end.
--
-- Locks: the reservations in the order of their ids. They are released before it returns, because undoing a block releases the
-- row locks that were taken in it.
-- Errors: none.
-- Plans: see db/README.md, 'Plans'. Here the primary key must be walked in order, because that is the order of the locks.

create or replace function inventory.await_reservations(p_reservation_ids uuid[])
returns void
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  perform
  from inventory.reservations r
  where r.id = any (p_reservation_ids)
  order by r.id
  for no key update;
  raise exception using errcode = 'LPUND', message = 'undo this block';
exception when sqlstate 'LPUND' then
  return;
end
$$;

comment on function inventory.await_reservations(uuid[]) is
'Wait until no purchase of these reservations is in progress; hold no lock afterwards.';
