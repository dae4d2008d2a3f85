-- inventory.newest_hold_status: what became of a user's newest hold on a drop, or of the hold that is named; null: there is none.
--
-- Purpose: a purchase that comes too late is told why, however late it comes. A named hold of another user is none.
--
-- Locks: none. Errors: none. Plans: see db/README.md, 'Plans'. Ids rise with time, so the newest has the greatest id. Holds that
-- were bought are found by their purchases, because reservations_lapsed_idx has only those that ran out or were cancelled.

create or replace function inventory.newest_hold_status(p_drop_id uuid, p_user_id uuid, p_reservation_id uuid)
returns text
language plpgsql stable
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_lapsed record;
begin
  if p_reservation_id is not null then
    return (
      select r.status
      from inventory.reservations r
      where r.id = p_reservation_id and r.drop_id = p_drop_id and r.user_id = p_user_id
    );
  end if;
  select r.id, r.status into v_lapsed
  from inventory.reservations r
  where r.drop_id = p_drop_id and r.user_id = p_user_id and r.status in ('EXPIRED', 'CANCELLED')
  order by r.id desc
  limit 1;
  if exists (
    select from inventory.purchases p
    where p.user_id = p_user_id and p.drop_id = p_drop_id and (v_lapsed.id is null or p.reservation_id > v_lapsed.id)
  ) then
    return 'CONSUMED';
  end if;
  return v_lapsed.status;
end
$$;

comment on function inventory.newest_hold_status(uuid, uuid, uuid) is
'What became of a user''s newest hold on a drop, or of the one that is named; null if there is none.';
