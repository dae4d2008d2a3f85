-- inventory.stock_points: what became of the stock of a drop within some time: points at the ends of buckets, as JSON.
--
-- p_ends are the beginning of the first bucket and the ends of all, p_ids the last events up to each (inventory.event_ids_at),
-- and p_known_from is the time of the oldest event in the log. A point has `at`, the end of its bucket; `sold`, the units sold
-- within it; `available` and `held`, the units at its end. A point that is as the one before and the one behind it, and without
-- a sale, is left out, so that a line from point to point is right, and a quiet drop has two.
--
-- Sales come from the purchases, by their time, so they are right for any time. What was available comes from the events: the
-- newest one up to the end of the bucket, which may be the last pruned one, or, if none is known, the stock as it is. Before the
-- first of these it is not known, and null. What was held is the rest: total_stock, with its later changes undone, less what was
-- available and what was sold by then. The last point is as the clock has it: units of due holds and payments are available. A
-- purchase is a sale once it is paid, at the time when it was made; one that is not paid, or not yet, counts as held.
--
-- Locks: none. Errors: none.
-- Plans: as in inventory.drops_with_due. For each bucket one look-up in events_drop_idx; the purchases and refunds of that time.

create or replace function inventory.stock_points(
  p_drop inventory.drops, p_ends timestamptz[], p_ids bigint[], p_known_from timestamptz
)
returns json
language plpgsql stable
set timezone = 'UTC'
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_last integer := cardinality(p_ends);
  v_available integer[]; -- as announced last in each bucket; null: nothing was announced in it
  v_is_quiet boolean; -- the log has nothing about the stock of this drop
  v_pruned record; -- what was told before the log begins: the bucket, and the stock
  v_held record;
  v_pending record; -- units of purchases that are not paid yet
  v_shown integer; -- available now
begin
  v_available := array(
    select stock.available
    from generate_series(1, v_last) as n
    left join lateral (
      select inventory.told_stock(e.type, e.data) as available
      from inventory.events e
      where e.drop_id = p_drop.id and e.id <= p_ids[n] and e.id > coalesce(p_ids[n - 1], 0)
        and e.type in ('STOCK_UPDATED', 'DROP_CREATED', 'DROP_UPDATED')
      order by e.id desc
      limit 1
    ) stock on true
    order by n
  );
  select least(width_bucket(p.stock_at, p_ends) + 1, v_last) as n, p.available_stock as available into v_pruned
  from inventory.pruned_events p
  where p.drop_id = p_drop.id and p.stock_at is not null;
  if found and v_available[v_pruned.n] is null then
    v_available[v_pruned.n] := v_pruned.available;
  end if;
  v_is_quiet := num_nonnulls(variadic v_available) = 0;
  select
    coalesce(sum(r.qty), 0) as stored, coalesce(sum(r.qty) filter (where r.expires_at > now()), 0) as shown into v_held
  from inventory.reservations r
  where r.drop_id = p_drop.id and r.status = 'ACTIVE' and r.expires_at >= '-infinity';
  select
    coalesce(sum(p.qty), 0) as stored, coalesce(sum(p.qty) filter (where p.payment_expires_at > now()), 0) as shown into v_pending
  from inventory.purchases p
  where p.drop_id = p_drop.id and p.status = 'pending' and p.payment_expires_at >= p_drop.nothing_due_before;
  v_shown := p_drop.available_stock + v_held.stored - v_held.shown + v_pending.stored - v_pending.shown;

  return (
    with moved as (
      select
        least(width_bucket(m.at, p_ends) + 1, v_last) as n, sum(m.sold) as sold, sum(m.refunded) as refunded,
        sum(m.added) as added
      from (
        select p.created_at as at, p.qty as sold, 0 as refunded, 0 as added
        from inventory.purchases p
        where p.drop_id = p_drop.id and p.status = 'paid' and p.created_at >= p_ends[1]
        union all
        select p.created_at, p.qty, 0, 0
        from inventory.purchases p
        where p.drop_id = p_drop.id and p.status = 'refunded' and p.created_at >= p_ends[1]
        union all
        select p.refunded_at, 0, p.refunded_qty, 0
        from inventory.purchases p
        where p.drop_id = p_drop.id and p.refunded_qty > 0 and p.refunded_at >= p_ends[1]
        union all
        select c.created_at, 0, 0, (c.details #>> '{total_stock,to}')::integer - (c.details #>> '{total_stock,from}')::integer
        from inventory.drop_changes c
        where c.drop_id = p_drop.id and c.created_at >= p_ends[1] and c.details -> 'total_stock' ->> 'to' is not null
      ) m
      group by 1
    ),
    bucket as (
      select
        b.n, p_ends[b.n] as at, coalesce(moved.sold, 0) as sold,
        case
          when b.n = v_last then v_shown
          when v_is_quiet then case when p_ends[b.n] >= p_known_from then v_shown end
          else v_available[max(b.n) filter (where v_available[b.n] is not null) over (order by b.n)]
        end as available,
        p_drop.total_stock - coalesce(sum(moved.added) over later, 0) as total,
        p_drop.total_stock - p_drop.available_stock - v_held.stored - v_pending.stored
          - coalesce(sum(moved.sold - moved.refunded) over later, 0) as sold_by_then
      from generate_series(1, v_last) as b (n)
      left join moved on moved.n = b.n
      window later as (order by b.n desc rows between unbounded preceding and 1 preceding)
    ),
    point as (
      select
        b.n, b.at, b.sold, b.available,
        case
          when b.n = v_last then v_held.shown + v_pending.shown
          -- Transactions are announced a little later than their rows say, so the figures of a moment may not fit.
          when b.available is not null then greatest(b.total - b.available - b.sold_by_then, 0)
        end as held
      from bucket b
    )
    select json_agg(json_build_object('at', p.at, 'sold', p.sold, 'held', p.held, 'available', p.available) order by p.n)
    from (
      select
        p.*,
        (p.available, p.held) is not distinct from (lag(p.available) over w, lag(p.held) over w)
          and (p.available, p.held) is not distinct from (lead(p.available) over w, lead(p.held) over w)
          and p.sold = 0 as is_same
      from point p
      where p.n > 1
      window w as (order by p.n)
    ) p
    where not p.is_same or p.n in (2, v_last)
  );
end
$$;

comment on function inventory.stock_points(inventory.drops, timestamptz[], bigint[], timestamptz) is
'What became of the stock of a drop: sold, held and available units by bucket of time, as JSON.';
