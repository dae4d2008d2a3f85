-- api.refund_drop: refund up to p_limit paid purchases of a drop that is cancelled or over, the oldest first.
--
-- Purpose: a drop may have more sales than one transaction should change, because it holds the drop's lock. Call it until
-- `remaining` is 0. A call that failed, or was never made, does no harm: the next one goes on.
--
-- Purchases that were paid at a provider are paid back there. A payment that is open on a drop that is over goes on: it may be
-- paid yet.
--
-- Locks, in this order: the drop's row, the purchases, their payments. Errors: DROP_NOT_FOUND, INVALID_STATUS_CHANGE (the drop
-- still sells), VALIDATION_ERROR (limit), FORBIDDEN (a seller names another user), AUTH_REQUIRED.
--
-- Plans: purchases_latest_idx has what is still paid.

create or replace function api.refund_drop(p_drop_id uuid, p_limit integer default 1000, p_refunded_by uuid default null)
returns table (refunded integer, remaining bigint)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  v_drop inventory.drops;
  v_ids uuid[];
  v_amount numeric;
  v_payment_ids uuid[];
  v_amounts numeric[]; -- what of each is refunded
begin
  perform inventory.check_limit(p_limit);
  select * into v_drop from inventory.drops d where d.id = p_drop_id for no key update;
  if not found then
    perform inventory.refuse('DROP_NOT_FOUND');
  end if;
  if inventory.status_now(v_drop) not in ('ended', 'cancelled') then
    perform inventory.refuse('INVALID_STATUS_CHANGE', 'All sales can be refunded once the drop is cancelled or over.');
  end if;
  v_ids := array(
    select p.id
    from inventory.purchases p
    where p.drop_id = p_drop_id and p.status = 'paid'
    order by p.created_at, p.id
    limit p_limit
    for no key update
  );
  if v_ids <> '{}' then
    with refund as materialized (
      select (r.purchase).payment_id, r.amount from inventory.refund(p_drop_id, v_ids) r
    ),
    of_payment as (
      select r.payment_id, sum(r.amount) as amount from refund r where r.payment_id is not null group by r.payment_id
    )
    select
      (select sum(r.amount) from refund r),
      array_agg(y.payment_id order by y.payment_id),
      array_agg(y.amount order by y.payment_id)
    into v_amount, v_payment_ids, v_amounts
    from of_payment y;
    if v_payment_ids is not null then
      perform inventory.refund_payments(v_payment_ids, v_amounts);
    end if;
    perform inventory.record_change(
      p_drop_id, 'refunded', p_refunded_by, jsonb_build_object('purchases', cardinality(v_ids), 'amount', v_amount));
  end if;
  return query
  select
    cardinality(v_ids),
    (select count(*) from inventory.purchases p where p.drop_id = p_drop_id and p.status = 'paid');
end
$$;

comment on function api.refund_drop(uuid, integer, uuid) is
'Refund up to p_limit paid purchases of a drop that is cancelled or over, and return how many were refunded and how many remain. Call
it until none remain.';
