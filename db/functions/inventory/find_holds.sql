-- inventory.find_holds: the hold that each purchase request means to consume, and whether it has run out.
--
-- Purpose: the first step of inventory.purchase_on_drops. A request that names a reservation means that one, if it is the user's
-- and ACTIVE. A request that names none means the one live hold that the user has on the drop; if there are several, it means none
-- of them. Only a user who has no live hold means one that has run out, because by the clock that one is not there any more. A
-- request that repeats the Idempotency-Key of an earlier purchase means to consume nothing: its hold is null, as is that of a user
-- who holds nothing. Whether a hold is due is known before anything is locked, because now() does not change during the
-- transaction. Only an extension that began before the hold was due may still change it, so the caller looks at due holds again
-- when it has locked them. The facts of the sale (units, price, currency) never change; a
-- hold that was made before version 0.3 has those of its drop.
--
-- Locks: none. Errors: none. Plans: as in inventory.reserve_facts. `is true` hides reservations_due_idx from the search for several
-- holds, because that index would give the holds of all users of the drop.

create or replace function inventory.find_holds(p_requests api.purchase_request[])
returns table (
  n integer,
  hold_id uuid,
  is_due boolean,
  has_several boolean,
  variant_id uuid,
  qty integer,
  unit_price numeric,
  currency text
)
language sql stable
as $$
  select
    q.ordinality::integer,
    case when not several.has then own.id end,
    own.expires_at <= now(),
    several.has,
    own.variant_id,
    own.qty,
    coalesce(own.unit_price, (select d.price from inventory.drops d where d.id = own.drop_id)),
    coalesce(own.currency, (select d.currency from inventory.drops d where d.id = own.drop_id))
  from unnest(p_requests) with ordinality q
  left join lateral (
    select p.id
    from inventory.purchases p
    where p.drop_id = q.drop_id and p.user_id = q.user_id and p.idempotency_key = q.idempotency_key
    limit 1
  ) earlier on true
  left join lateral (
    select r.*
    from inventory.reservations r
    where r.drop_id = q.drop_id and r.user_id = q.user_id and r.status = 'ACTIVE'
      and (q.reservation_id is null or r.id = q.reservation_id)
    order by r.expires_at <= now() -- a user has more than one only if the drop has variants
    limit 1
  ) own on earlier.id is null
  cross join lateral (
    select own.variant_id is not null and q.reservation_id is null and exists (
      select from inventory.reservations r
      where r.drop_id = q.drop_id and r.user_id = q.user_id and r.status = 'ACTIVE' and r.id <> own.id
        and (r.expires_at > now()) is true
    ) as has
  ) several
$$;

comment on function inventory.find_holds(api.purchase_request[]) is
'For each purchase request the hold that it means to consume, whether that hold has run out, and whether it could mean several.';
