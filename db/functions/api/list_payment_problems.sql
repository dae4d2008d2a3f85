-- api.list_payment_problems: list the events of payment providers that the seller has to look at, the newest first, in pages.
--
-- Nodes of a router number their own events, so the list is sorted by time, and ids count within one moment: p_before_at says when the
-- event p_before came. With p_before alone, a page has the ids that are less, sorted by id.
--
-- api.record_payment_event explains the problems. payment_status and payment_amount are those of the payment now; they are null
-- if it is not known.
--
-- Locks: none. Errors: VALIDATION_ERROR (limit). Plans: payment_events_flagged_at_idx has these events, and
-- payment_events_flagged_idx those after an id alone.

create or replace function api.list_payment_problems(
  p_limit integer default 50, p_before bigint default null, p_before_at timestamptz default null
)
returns table (
  id bigint,
  at timestamptz,
  problem text,
  provider text,
  event_id text,
  status text,
  amount numeric,
  currency text,
  refunded_amount numeric,
  payment_id uuid,
  drop_id uuid,
  user_id uuid,
  username text,
  payment_status text,
  payment_amount numeric,
  payment_currency text
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_column
declare
  v_before_at timestamptz := case when p_before is null then coalesce(p_before_at, 'infinity') else p_before_at end;
begin
  perform inventory.check_limit(p_limit);
  return query
  select
    e.id, e.received_at, e.problem, e.provider, e.event_id, e.status, e.amount, e.currency, e.refunded_amount, e.payment_id,
    y.drop_id, y.user_id, u.username, (inventory.payment_row(y)).status, y.amount, y.currency
  from (
    (
      select *
      from inventory.payment_events f
      where v_before_at is null and f.outcome = 'flagged' and f.id < coalesce(p_before, 9223372036854775807)
      order by f.id desc
      limit p_limit
    )
    union all
    (
      select *
      from inventory.payment_events f
      where v_before_at is not null and f.outcome = 'flagged'
        and (f.received_at, f.id) < (v_before_at, coalesce(p_before, 9223372036854775807))
      order by f.received_at desc, f.id desc
      limit p_limit
    )
  ) e
  left join inventory.payments y on y.id = e.payment_id
  left join inventory.users u on u.id = y.user_id
  order by case when v_before_at is not null then e.received_at end desc, e.id desc;
end
$$;

comment on function api.list_payment_problems(integer, bigint, timestamptz) is
'List the events of payment providers that the seller has to look at, the newest first: p_limit of them, after the one whose
id is p_before. p_before_at is the time of that one.';
