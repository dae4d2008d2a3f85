-- inventory.activity_feed: what a drop's row does not say: who bought last, and how many units are held and not yet sold.
--
-- Locks: none. Errors: none.
--
-- Units held are counted, for a purchase turns a hold into a sale without touching the drop. There are never more of them than are
-- reserved within a hold's time, and the index that holds them alone is walked.

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

comment on function inventory.activity_feed(uuid) is 'The three latest purchasers of a drop and the number of units held, as JSON.';
