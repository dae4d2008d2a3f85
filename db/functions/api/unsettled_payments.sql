-- api.unsettled_payments: the payments that a provider may know better: those that are open or were cancelled, and those with
-- refunds, as far as they changed within the last week; the oldest first, in pages.
--
-- Purpose: reconciliation compares them with the provider, because a webhook may have been lost. Payments that changed within
-- p_older_than_seconds are left out, because their events may be on the way. An open payment is listed however old it is.
--
-- Locks: none. Errors: VALIDATION_ERROR (limit). Plans: payments_unsettled_idx has these payments in the order of their ids.

create or replace function api.unsettled_payments(
  p_older_than_seconds integer default 0, p_after uuid default null, p_limit integer default 100
)
returns setof api.payment_row
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
begin
  perform inventory.check_limit(p_limit);
  return query
  select r.*
  from (
    select y
    from inventory.payments y
    where (y.status <> 'paid' or y.refunded_amount > 0)
      and y.id > coalesce(p_after, '00000000-0000-0000-0000-000000000000')
      and y.updated_at <= now() - make_interval(secs => p_older_than_seconds)
      and (y.status in ('pending', 'failed') or y.updated_at > now() - interval '7 days')
    order by y.id
    limit p_limit
  ) page
  cross join lateral inventory.payment_row(page.y) r
  order by r.id;
end
$$;

comment on function api.unsettled_payments(integer, uuid, integer) is
'List payments that a provider may know better, for reconciliation: p_limit of them, after the id p_after, that did not change
within p_older_than_seconds.';
