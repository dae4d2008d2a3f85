-- inventory.term_facts: what the terms of a drop ask about the user of each reserve request, before any of them is decided.
--
-- Purpose: a step of inventory.reserve_decisions, for drops that have such terms. It reads, and decides nothing.
--
-- A row of the answer, one for each user:
--   n              the number of the user in p_user_ids
--   units          the units of the drop that the user holds and has bought, if the drop has a limit
--   may_hold_at    when the user may hold units again after the hold of any variant that lapsed last, if the drop makes users wait
--
-- Locks: none. Errors: none. Plans: as in inventory.reserve_facts. A subquery with a condition on p_drop only is not run for other
-- drops.

create or replace function inventory.term_facts(p_drop inventory.drops, p_drop_id uuid, p_user_ids uuid[])
returns table (n integer, units integer, may_hold_at timestamptz)
language sql stable
as $$
  select
    q.n::integer,
    case when p_drop.limit_per_user is not null then
      coalesce((
        select sum(r.qty) from inventory.reservations r
        where r.drop_id = p_drop_id and r.user_id = q.user_id and r.status = 'ACTIVE'
      ), 0) + coalesce((
        select sum(p.qty) from inventory.purchases p
        where p.drop_id = p_drop_id and p.user_id = q.user_id and p.status in ('pending', 'paid')
      ), 0)
    end::integer,
    case when p_drop.rehold_after_seconds > 0 then
      (
        select max(case r.status when 'EXPIRED' then r.expires_at else r.updated_at end)
        from inventory.reservations r
        where r.drop_id = p_drop_id and r.user_id = q.user_id and r.status in ('EXPIRED', 'CANCELLED')
      ) + make_interval(secs => p_drop.rehold_after_seconds)
    end
  from unnest(p_user_ids) with ordinality as q (user_id, n)
$$;

comment on function inventory.term_facts(inventory.drops, uuid, uuid[]) is
'What the terms of a drop ask about the user of each reserve request. Reads, decides nothing.';
