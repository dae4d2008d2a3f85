-- api.reservation_history: what became of a reservation, who did it and when, the oldest first.
--
-- It is derived from the reservation, its purchase, its payment and the history of the drop, so a reserve and a purchase write
-- nothing for it. A hold that was cancelled at the very moment when the seller released all holds was cancelled by the seller. A
-- purchase that was refunded in parts has a row for each of them. user_id is null for what nobody did.
--
-- Locks: none. Errors: as api.get_reservation.

create or replace function api.reservation_history(p_reservation_id uuid, p_user_id uuid)
returns table (at timestamptz, action text, user_id uuid, details jsonb)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
declare
  v_hold api.reservation_row;
begin
  perform inventory.require_self(p_user_id);
  select * into v_hold from api.get_reservation(p_reservation_id, p_user_id);
  return query
  select h.at, h.action, h.user_id, jsonb_strip_nulls(h.details)
  from (
    select 1, null::bigint, v_hold."createdAt", 'reserved', v_hold.user_id,
      jsonb_build_object('qty', v_hold.qty, 'amount', v_hold.amount, 'currency', v_hold.currency)
    union all
    select 2, null, v_hold.extended_at, 'extended', v_hold.user_id, jsonb_build_object('expires_at', v_hold.expires_at)
    where v_hold.extended_at is not null
    union all
    select 3, null, v_hold.expires_at, 'expired', null, '{}' where v_hold.status = 'EXPIRED'
    union all
    select 3, null, v_hold."updatedAt", 'cancelled', coalesce(c.changed_by, case when c.id is null then v_hold.user_id end), '{}'
    from (values (true)) as one
    left join inventory.drop_changes c
      on c.drop_id = v_hold.drop_id and c.created_at = v_hold."updatedAt"
      and (c.action = 'cancelled' or c.action = 'updated' and c.details ? 'held_stock')
    where v_hold.status = 'CANCELLED'
    union all
    select 3, null, p.created_at, 'purchased', p.user_id,
      jsonb_build_object('purchase_id', p.id, 'qty', p.qty, 'amount', p.amount, 'currency', p.currency)
    from inventory.purchases p
    where p.reservation_id = v_hold.id and p.drop_id = v_hold.drop_id
    union all
    -- The payment ended without money: the buyer cancelled it, the seller the drop, or else it was the provider, or time ran out.
    select
      4, null, ended.at, case when ended.at < p.payment_expires_at then 'cancelled' else 'expired' end,
      case
        when c.id is not null then c.changed_by
        when ended.at < p.payment_expires_at and not exists (
          select from inventory.payment_events e
          where e.payment_id = p.payment_id and e.status = 'cancelled' and e.outcome = 'applied'
        ) then p.user_id
      end,
      jsonb_build_object('purchase_id', p.id)
    from inventory.purchases p
    cross join lateral (
      select case p.status when 'cancelled' then least(p.updated_at, p.payment_expires_at) else p.payment_expires_at end
    ) ended (at)
    left join inventory.drop_changes c
      on c.drop_id = p.drop_id and c.action = 'cancelled' and c.created_at = p.updated_at and ended.at < p.payment_expires_at
    where p.reservation_id = v_hold.id and p.drop_id = v_hold.drop_id and (inventory.purchase_row(p)).status = 'cancelled'
    union all
    select 5, c.id, c.created_at, 'refunded', c.changed_by, c.details
    from inventory.purchases p
    join inventory.drop_changes c
      on c.drop_id = p.drop_id and c.action = 'refunded' and (c.details ->> 'purchase_id')::uuid = p.id
    where p.reservation_id = v_hold.id and p.drop_id = v_hold.drop_id
    union all
    -- What is left was refunded together with other purchases of the drop, or at the provider.
    select
      5, null, p.refunded_at, 'refunded',
      (
        select c.changed_by
        from inventory.drop_changes c
        where c.drop_id = p.drop_id and c.action = 'refunded' and c.created_at = p.refunded_at and not c.details ? 'purchase_id'
        limit 1
      ),
      jsonb_build_object('purchase_id', p.id, 'qty', p.refunded_qty - alone.qty, 'amount', p.refunded_amount - alone.amount)
    from inventory.purchases p
    cross join lateral (
      select
        coalesce(sum(coalesce((c.details ->> 'qty')::integer, p.qty)), 0),
        coalesce(sum((c.details ->> 'amount')::numeric), 0)
      from inventory.drop_changes c
      where c.drop_id = p.drop_id and c.action = 'refunded' and (c.details ->> 'purchase_id')::uuid = p.id
    ) alone (qty, amount)
    where p.reservation_id = v_hold.id and p.drop_id = v_hold.drop_id and p.refunded_qty > alone.qty
  ) as h (place, change_id, at, action, user_id, details)
  order by h.at, h.place, h.change_id;
end
$$;

comment on function api.reservation_history(uuid, uuid) is
'Show what became of a reservation, to its user or to the user who made the drop: who did what when, the oldest first.';
