-- inventory.variants_not_due: whether a transaction took something out of what is due, by the notes of what it did to a drop: the ids
-- of the variants concerned, none of a drop without variants; null if it took nothing.
--
-- Purpose: a step of inventory.publish_changes. A purchase, an extension or a payment that began in time may commit when its hold or
-- payment is due. Until then snapshots and events of other transactions count its units as stock.
--
-- p_change is the note, and p_before the moment up to which something counts as due. Of a note that has nothing in it, as that of an
-- extension, all variants are returned, because it does not say what was changed.
--
-- Locks: none. Errors: none.

create or replace function inventory.variants_not_due(p_change inventory.changes, p_before timestamptz)
returns uuid[]
language plpgsql stable
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  if p_change.purchased_ids = '{}' then
    if p_change.is_created or p_change.is_updated or p_change.is_activity_updated or p_change.expired_ids <> '{}'
      or p_change.updated_payment_ids <> '{}' or p_change.changed_purchase_ids is not null
      or p_change.added_held <> 0 or p_change.added_sold <> 0 then
      return null;
    end if;
    return array(select v.id from inventory.variants v where v.drop_id = p_change.drop_id);
  end if;
  return (
    select coalesce(array_agg(distinct bought.variant_id) filter (where bought.variant_id is not null), '{}')
    from unnest(p_change.purchased_ids) as x (id)
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

comment on function inventory.variants_not_due(inventory.changes, timestamptz) is
'The variants of which a transaction took units out of what is due; null if it took none.';
