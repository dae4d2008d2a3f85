-- inventory.activity_feed: what a drop's own row does not hold: its latest purchasers and the number of units held.
--
-- The held units are those of holds, and of purchases that are not paid yet. They are added up, because a purchase or a payment
-- turns them into a sale without touching the drop. There are few: at most what was reserved within the time that a hold or a
-- payment lasts. What is due counts as stock. It reads only the indexes of the due reservations and purchases.
--
-- Locks: none. Errors: none.
-- Plans: as in inventory.reserve_facts.

create or replace function inventory.activity_feed(p_drop_id uuid)
returns table (feed json)
language sql stable
as $$
  select to_json(f)
  from (
    select
      (select l.purchasers from inventory.latest_purchasers(p_drop_id) l) as latest_purchasers,
      (
        select coalesce(sum(r.qty), 0)
        from inventory.reservations r
        where r.drop_id = p_drop_id and r.status = 'ACTIVE' and r.expires_at > now()
      ) + (
        select coalesce(sum(p.qty), 0)
        from inventory.purchases p
        where p.drop_id = p_drop_id and p.status = 'pending' and p.payment_expires_at > now()
      ) as held_stock
  ) f
$$;

comment on function inventory.activity_feed(uuid) is
'Return the three latest purchasers of a drop and the number of units held and not yet paid, as JSON.';
