-- inventory.activity_feed: what a drop's own row does not hold: its latest purchasers and the number of units held.
--
-- The held units are counted, because a purchase turns a hold into a sale without touching the drop. The count is small: it is at
-- most the holds reserved within the time that a hold lasts, and the due holds that have not been taken back yet. It reads only
-- the index of the ACTIVE reservations.
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
      (select count(*) from inventory.reservations r where r.drop_id = p_drop_id and r.status = 'ACTIVE') as held_stock
  ) feed;
end
$$;

comment on function inventory.activity_feed(uuid) is
'Return the three latest purchasers of a drop and the number of units held, as JSON.';
