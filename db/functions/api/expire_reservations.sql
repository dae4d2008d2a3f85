-- api.expire_reservations: the sweep: expire the due reservations, at most p_limit, and give their units back.
--
-- Locks, drop by drop in the order of their ids: the drop's row, then its due reservations. Rows that another transaction has
-- locked are skipped. The call keeps the locks of several drops, so it never waits, and a drop that is stuck does not stop the
-- other drops. What this sweep skipped, the next one takes back. If the sweep always finds a drop locked, its buyers' reserves take
-- the due holds back. The stock changes in the same transaction.
-- Errors: VALIDATION_ERROR (p_limit).
--
-- Plans: see db/README.md, 'Plans'. reservations_due_idx leads with the drop: the sweep goes from each drop with a hold to the next
-- one, and visits no hold of it that is not due.

create or replace function api.expire_reservations(p_limit integer default 1000)
returns setof api.reservation_row
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_sort = off
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_left integer := p_limit;
  v_drop_id uuid := '00000000-0000-0000-0000-000000000000';
  v_drop inventory.drops;
  v_expired integer;
begin
  if p_limit is null or p_limit < 1 then
    perform inventory.refuse('VALIDATION_ERROR', 'p_limit: must be 1 or more');
  end if;
  while v_left > 0 loop
    select r.drop_id into v_drop_id
    from inventory.reservations r
    where r.status = 'ACTIVE' and r.expires_at >= '-infinity' and r.drop_id > v_drop_id
    order by r.drop_id, r.expires_at
    limit 1;
    exit when not found;
    select * into v_drop from inventory.drops d where d.id = v_drop_id;
    if inventory.has_due(v_drop) then
      perform from inventory.drops d where d.id = v_drop_id for no key update skip locked;
      if found then
        return query
        select * from inventory.expire_due(v_drop_id, inventory.lock_due_reservations(v_drop, v_left));
        get diagnostics v_expired = row_count;
        v_left := v_left - v_expired;
      end if;
    end if;
  end loop;
end
$$;

comment on function api.expire_reservations(integer) is
'Expire at most p_limit due reservations, give their units back and return the reservations. If it returns fewer than p_limit,
nothing more is due, or another transaction has locked the rest.';
