-- inventory.drops_with_due: the ids of those of these drops that have an ACTIVE reservation or a pending purchase that is due, in
-- the same order. A pending purchase is due when its payment must have come.
--
-- Locks: none. Errors: none.
--
-- Plans: see db/README.md, 'Plans'. Here sorting is disabled too, so that reservations_due_idx and purchases_due_idx are the only
-- plan: they have the rows of a drop in the order of their ends. The search begins at nothing_due_before. Otherwise it would
-- visit the index entry of every hold that was sold since the oldest snapshot.

create or replace function inventory.drops_with_due(p_drops inventory.drops[])
returns uuid[]
language plpgsql stable
set enable_sort = off
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  return array(
    select d.id
    from unnest(p_drops) d
    where d.nothing_due_before <= now() and coalesce(
      (
        select r.expires_at
        from inventory.reservations r
        where r.status = 'ACTIVE' and r.drop_id = d.id and r.expires_at >= d.nothing_due_before and r.expires_at <= now()
        order by r.expires_at
        limit 1
      ),
      (
        select p.payment_expires_at
        from inventory.purchases p
        where p.status = 'pending' and p.drop_id = d.id and p.payment_expires_at >= d.nothing_due_before
          and p.payment_expires_at <= now()
        order by p.payment_expires_at
        limit 1
      )
    ) is not null
  );
end
$$;

comment on function inventory.drops_with_due(inventory.drops[]) is
'Which of these drops have an ACTIVE reservation or a pending purchase that is due?';
