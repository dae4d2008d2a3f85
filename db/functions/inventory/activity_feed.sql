-- inventory.activity_feed: what a drop's own row does not hold: its latest purchasers and the number of units held.
--
-- The held units are added up, because a purchase turns a hold into a sale without touching the drop. There are few: at most what
-- was reserved within the time that a hold lasts. Holds that are due count as stock. It reads only the index of the due
-- reservations.
--
-- Locks: none. Errors: none.
-- Plans: see db/README.md, 'Plans'.

create or replace function inventory.activity_feed(p_drop_id uuid)
returns json
language plpgsql stable
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  return to_json(feed)
  from (
    select
      inventory.latest_purchasers(p_drop_id) as latest_purchasers,
      (
        select coalesce(sum(r.qty), 0)
        from inventory.reservations r
        where r.drop_id = p_drop_id and r.status = 'ACTIVE' and r.expires_at > now()
      ) as held_stock
  ) feed;
end
$$;

comment on function inventory.activity_feed(uuid) is
'Return the three latest purchasers of a drop and the number of units held, as JSON.';
