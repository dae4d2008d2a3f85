-- inventory.variants_not_due: of which variants a transaction took units out of what is due, by the purchases that it made or that
-- were paid: none of a drop without variants; null if it took no such units.
--
-- Purpose: a step of inventory.publish_changes. A purchase or a payment that began in time may commit when its hold or payment is due.
-- Until then snapshots and events of other transactions count its units as stock. p_before is the moment up to which something counts
-- as due. Purchases that are not new were paid.
--
-- Locks: none. Errors: none. Plans: as in inventory.purchase_on_drops.

create or replace function inventory.variants_not_due(p_purchase_ids uuid[], p_before timestamptz)
returns uuid[]
language plpgsql stable
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  return (
    select coalesce(array_agg(distinct bought.variant_id) filter (where bought.variant_id is not null), '{}')
    from unnest(p_purchase_ids) as x (id)
    cross join lateral (
      select p.variant_id, p.reservation_id, p.payment_expires_at, p.created_at = now() as is_new
      from inventory.purchases p
      where p.id = x.id
      limit 1
    ) bought
    cross join lateral (
      select r.expires_at from inventory.reservations r where r.id = bought.reservation_id limit 1
    ) hold
    where case when bought.is_new then hold.expires_at else bought.payment_expires_at end <= p_before
    having count(*) > 0
  );
end
$$;

comment on function inventory.variants_not_due(uuid[], timestamptz) is
'The variants of which a transaction took units out of what is due, by its purchases; null if it took none.';
