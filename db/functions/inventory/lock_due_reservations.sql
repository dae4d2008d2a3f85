-- inventory.lock_due_reservations: lock the due reservations of a drop, the oldest first and at most p_limit, and return their
-- ids.
--
-- Locks: the caller holds the drop's row. The reservations are locked with skip locked: one that a purchase has locked is left to
-- that purchase and the next one is taken. So a transaction that one buyer forgot to end hides no other buyer's unit.
-- Errors: none.
-- Plans: see db/README.md, 'Plans'. Here sorting is disabled too, as in inventory.drops_with_due.

create or replace function inventory.lock_due_reservations(p_drop inventory.drops, p_limit integer)
returns uuid[]
language plpgsql
set enable_sort = off
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  return array(
    select r.id
    from inventory.reservations r
    where r.status = 'ACTIVE' and r.drop_id = p_drop.id and r.expires_at >= p_drop.nothing_due_before
      and r.expires_at <= now()
    order by r.expires_at
    limit p_limit
    for no key update skip locked
  );
end
$$;

comment on function inventory.lock_due_reservations(inventory.drops, integer) is
'Lock a drop''s due ACTIVE reservations, oldest first, and return their ids. The caller holds the drop''s lock.';
