-- api.reservation_history: what became of a reservation, who did it and when, the oldest first.
--
-- It is derived from the reservation, its purchase and the history of the drop, so a reserve and a purchase write nothing for it.
-- A hold that was cancelled at the very moment when its drop was, was cancelled by the seller. user_id is null for what nobody did.
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
    select 1, v_hold."createdAt", 'reserved', v_hold.user_id,
      jsonb_build_object('qty', v_hold.qty, 'amount', v_hold.amount, 'currency', v_hold.currency)
    union all
    select 2, v_hold.extended_at, 'extended', v_hold.user_id, jsonb_build_object('expires_at', v_hold.expires_at)
    where v_hold.extended_at is not null
    union all
    select 3, v_hold.expires_at, 'expired', null, '{}' where v_hold.status = 'EXPIRED'
    union all
    select 3, v_hold."updatedAt", 'cancelled', coalesce(c.changed_by, case when c.id is null then v_hold.user_id end), '{}'
    from (values (true)) as one
    left join inventory.drop_changes c
      on c.drop_id = v_hold.drop_id and c.action = 'cancelled' and c.created_at = v_hold."updatedAt"
    where v_hold.status = 'CANCELLED'
    union all
    select 3, p.created_at, 'purchased', p.user_id,
      jsonb_build_object('purchase_id', p.id, 'qty', p.qty, 'amount', p.amount, 'currency', p.currency)
    from inventory.purchases p
    where p.reservation_id = v_hold.id and p.drop_id = v_hold.drop_id
    union all
    select 4, p.refunded_at, 'refunded', c.changed_by, jsonb_build_object('purchase_id', p.id, 'amount', p.refunded_amount)
    from inventory.purchases p
    left join lateral (
      select x.changed_by
      from inventory.drop_changes x
      where x.drop_id = p.drop_id and x.action = 'refunded' and x.created_at = p.refunded_at
        and coalesce((x.details ->> 'purchase_id')::uuid = p.id, true)
      limit 1
    ) c on true
    where p.reservation_id = v_hold.id and p.drop_id = v_hold.drop_id and p.refunded_at is not null
  ) as h (place, at, action, user_id, details)
  order by h.at, h.place;
end
$$;

comment on function api.reservation_history(uuid, uuid) is
'Show what became of a reservation, to its user or to the user who made the drop: who did what when, the oldest first.';
