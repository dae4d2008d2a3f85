-- inventory.term_facts: what the terms of the drops ask about the user of each reserve request, before any of them is decided.
--
-- Purpose: a step of inventory.reserve_decisions, for drops that have such terms. It reads, and decides nothing.
--
-- p_limits and p_rehold_after_seconds are those of p_drop_ids. A row of the answer, one for each request:
--   n              the number of the request
--   units          the units of the drop that the user holds and has bought, if the drop has a limit
--   may_hold_at    when the user may hold units again after the hold of any variant, or its payment, that lapsed last, if the drop
--                  makes users wait
--
-- Locks: none. Errors: none. Plans: as in inventory.reserve_facts. A subquery with a condition on the terms only is not run for
-- other drops. `is not distinct from` hides the indexes that have the drop, because they would give the purchases of all its users.

create or replace function inventory.term_facts(
  p_drop_ids uuid[],
  p_limits integer[],
  p_rehold_after_seconds integer[],
  p_requests api.reserve_request[]
)
returns table (n integer, units integer, may_hold_at timestamptz)
language sql stable
as $$
  select
    q.ordinality::integer,
    case when p_limits[place.drop_n] is not null then
      coalesce((
        select sum(r.qty) from inventory.reservations r
        where r.drop_id = q.drop_id and r.user_id = q.user_id and r.status = 'ACTIVE'
      ), 0) + coalesce((
        select sum(p.qty - p.refunded_qty) from inventory.purchases p
        where p.drop_id = q.drop_id and p.user_id = q.user_id and p.status in ('pending', 'paid')
          and (p.status = 'pending' and p.payment_expires_at <= now()) is not true
      ), 0)
    end::integer,
    case when p_rehold_after_seconds[place.drop_n] > 0 then
      greatest(
        (
          select max(case r.status when 'EXPIRED' then r.expires_at else r.updated_at end)
          from inventory.reservations r
          where r.drop_id = q.drop_id and r.user_id = q.user_id and r.status in ('EXPIRED', 'CANCELLED')
        ),
        (
          select max(
            case
              when p.status = 'cancelled' then least(p.updated_at, p.payment_expires_at)
              when p.status = 'pending' and p.payment_expires_at <= now() then p.payment_expires_at
            end)
          from inventory.purchases p
          where p.user_id = q.user_id and p.drop_id is not distinct from q.drop_id
        )
      ) + make_interval(secs => p_rehold_after_seconds[place.drop_n])
    end
  from unnest(p_requests) with ordinality q
  cross join lateral (select array_position(p_drop_ids, q.drop_id) as drop_n) place
$$;

comment on function inventory.term_facts(uuid[], integer[], integer[], api.reserve_request[]) is
'What the terms of the drops ask about the user of each reserve request. Reads, decides nothing.';
