-- inventory.due_reservations: ids of a drop's holds that have run out and still hold their unit, oldest first.
--
-- Locks: none; inventory.expire_many locks what it is given. Errors: none.
--
-- Sorting and sequential scans are disabled so that reservations_due_idx is the only plan: a drop starts with empty tables, and
-- a plan chosen then would be kept for the session's life.

create or replace function inventory.due_reservations(p_drop_id uuid, p_limit integer)
returns uuid[]
language plpgsql stable
set enable_sort = off
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  return array(
    select r.id
    from inventory.reservations r
    where r.status = 'ACTIVE' and r.drop_id = p_drop_id and r.expires_at <= now()
    order by r.expires_at
    limit p_limit
  );
end
$$;

comment on function inventory.due_reservations(uuid, integer) is 'Ids of a drop''s due ACTIVE reservations, oldest first.';
