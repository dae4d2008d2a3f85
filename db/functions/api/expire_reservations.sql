-- api.expire_reservations: the sweep: expire the due reservations, at most p_limit, and give their units back.
--
-- Locks, drop by drop: the drop's row, then its due reservations. Rows that another transaction has locked are skipped. The call
-- keeps the locks of several drops, so it never waits, and a drop that is stuck does not stop the other drops. What this
-- sweep skipped, the next one takes back. If the sweep always finds a drop locked, its buyers' reserves take the due holds back.
-- The stock changes in the same transaction.
-- Errors: VALIDATION_ERROR (p_limit).
--
-- Plans: see db/README.md, 'Plans'. Here the order by inside the limit makes reservations_due_idx the only plan.

create or replace function api.expire_reservations(p_limit integer default 1000)
returns setof api.reservation
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_left integer := p_limit;
  v_passed_over uuid[] := '{}';
  v_group record;
  v_expired integer;
begin
  if p_limit is null or p_limit < 1 then
    perform inventory.refuse('VALIDATION_ERROR', 'p_limit: must be 1 or more');
  end if;
  loop
    v_expired := null;
    for v_group in
      select due.drop_id, count(*)::integer as units
      from (
        select r.drop_id
        from inventory.reservations r
        where r.status = 'ACTIVE' and r.expires_at <= now() and r.drop_id <> all (v_passed_over)
        order by r.expires_at
        limit v_left
      ) due
      group by due.drop_id
    loop
      v_expired := 0;
      perform from inventory.drops d where d.id = v_group.drop_id for no key update skip locked;
      if found then
        return query
        select * from inventory.expire_due(v_group.drop_id, inventory.lock_due_reservations(v_group.drop_id, v_group.units));
        get diagnostics v_expired = row_count;
        v_left := v_left - v_expired;
      end if;
      if v_expired < v_group.units then
        v_passed_over := v_passed_over || v_group.drop_id;
      end if;
    end loop;
    exit when v_left = 0 or v_expired is null; -- the limit is reached, or nothing more is due
  end loop;
end
$$;

comment on function api.expire_reservations(integer) is
'Expire at most p_limit due reservations, give their units back and return the reservations. If it returns fewer than p_limit,
nothing more is due, or another transaction has locked the rest.';
