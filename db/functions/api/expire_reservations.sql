-- api.expire_reservations: the sweep: expire what is due, at most p_limit reservations, and give their units back.
--
-- Locks, drop by drop in the order of their ids: the drop's row, then its due reservations with skip locked; stock is restored in
-- the same transaction. Any number of sweeps, reserves and purchases may run beside it. Errors: none.
--
-- The order by within the limit makes reservations_due_idx the plan, whatever the tables held when it was made.

create or replace function api.expire_reservations(p_limit integer default 1000)
returns setof api.reservation
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_group record;
begin
  for v_group in
    select due.drop_id, array_agg(due.id) as ids
    from (
      select r.id, r.drop_id
      from inventory.reservations r
      where r.status = 'ACTIVE' and r.expires_at <= now()
      order by r.expires_at
      limit p_limit
    ) due
    group by due.drop_id
    order by due.drop_id
  loop
    perform from inventory.drops d where d.id = v_group.drop_id for no key update;
    return query select * from inventory.expire_many(v_group.drop_id, v_group.ids);
  end loop;
end
$$;

comment on function api.expire_reservations(integer) is
'Expire at most p_limit due reservations, give their units back and return them. Fewer than p_limit: nothing more is due, or
another transaction has it in hand.';
