-- inventory.find_holds: the hold that each purchase request means to consume, and whether it has run out.
--
-- Purpose: the first step of inventory.purchase_on_drop. A request that repeats the Idempotency-Key of an earlier purchase means
-- to consume nothing: its hold is null, as is that of a user who holds nothing. Whether a hold is due is known before anything is
-- locked, because now() and expires_at do not change during the transaction.
--
-- Locks: none. Errors: none. Plans: as in inventory.reserve_decisions.

create or replace function inventory.find_holds(p_drop_id uuid, p_requests api.purchase_request[])
returns table (n integer, hold_id uuid, is_due boolean)
language sql stable
as $$
  select q.ordinality::integer, own_hold.id, own_hold.is_due
  from unnest(p_requests) with ordinality q
  left join lateral (
    select p.id
    from inventory.purchases p
    where p.drop_id = p_drop_id and p.user_id = q.user_id and p.idempotency_key = q.idempotency_key
    limit 1
  ) earlier on true
  left join lateral (
    select r.id, r.expires_at <= now() as is_due
    from inventory.reservations r
    where r.drop_id = p_drop_id and r.user_id = q.user_id and r.status = 'ACTIVE'
    limit 1
  ) own_hold on earlier.id is null
$$;

comment on function inventory.find_holds(uuid, api.purchase_request[]) is
'For each purchase request the hold that it means to consume, and whether that hold has run out.';
