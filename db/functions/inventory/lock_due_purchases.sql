-- inventory.lock_due_purchases: lock the pending purchases of a drop whose payment is due, the oldest first and at most p_limit,
-- with their payments, and return their ids.
--
-- Locks: the caller holds the drop's row. Purchases and payments are locked with skip locked: one that is being paid at this
-- moment is left to that. Errors: none. Plans: as in inventory.lock_due_reservations.

create or replace function inventory.lock_due_purchases(p_drop inventory.drops, p_limit integer)
returns uuid[]
language plpgsql
set enable_sort = off
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  return array(
    select p.id
    from inventory.purchases p
    cross join lateral (
      select from inventory.payments y where y.id = p.payment_id limit 1 for no key update skip locked
    ) payment
    where p.status = 'pending' and p.drop_id = p_drop.id and p.payment_expires_at >= p_drop.nothing_due_before
      and p.payment_expires_at <= now()
    order by p.payment_expires_at
    limit p_limit
    for no key update of p skip locked
  );
end
$$;

comment on function inventory.lock_due_purchases(inventory.drops, integer) is
'Lock a drop''s pending purchases whose payment is due, oldest first, and return their ids. The caller holds the drop''s lock.';
