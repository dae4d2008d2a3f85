-- inventory.cancel_on_drop: give back the units that users hold on one drop, in the order given.
--
-- Purpose: the one implementation of cancelling; api.cancel_reservation calls it for one request, api.cancel_batch for many.
--
-- Locks: first the function waits, without a lock, until no purchase of these reservations is in progress. Then it locks the
-- drop's row; the live reservations in the order of their ids, for which only a purchase can make it wait; the due ones, with
-- skip locked.
--
-- Errors: none raised; each request has its code: AUTH_REQUIRED, RESERVATION_NOT_FOUND, RESERVATION_NOT_ACTIVE (it was bought),
-- RESERVATION_EXPIRED. To cancel a hold that is cancelled already is no error, because a request may come twice. RESERVATION_NOT_FOUND is also the answer for a reservation of another user, because it must not show that
-- the reservation exists. If p_drop_id is null, no reservation is found.
--
-- Plans: as in inventory.purchase_on_drops.
--
-- "rows" keeps the estimated cost of a call for many drops far below what starts PostgreSQL's JIT compiler.

create or replace function inventory.cancel_on_drop(p_drop_id uuid, p_requests api.cancel_request[])
returns table (n integer, code text, reservation api.reservation_row)
language plpgsql rows 10
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_due_ids uuid[];
  v_live_ids uuid[];
  v_cancelled integer;
begin
  perform inventory.await_reservations(array(select q.reservation_id from unnest(p_requests) q));
  perform from inventory.drops d where d.id = p_drop_id for no key update;

  select
    array_agg(own.id) filter (where own.expires_at <= now()),
    array_agg(own.id) filter (where own.expires_at > now())
  into v_due_ids, v_live_ids
  from unnest(p_requests) q
  cross join lateral (
    select r.id, r.expires_at
    from inventory.reservations r
    where r.id = q.reservation_id and r.drop_id = p_drop_id and r.user_id = q.user_id
    limit 1
  ) own;

  with cancelled as (
    update inventory.reservations r
    set status = 'CANCELLED', updated_at = now()
    where r.id = any (v_live_ids) and r.drop_id = p_drop_id
      and r.status <> all (array['EXPIRED', 'CANCELLED', 'CONSUMED'])
    returning r.id, r.variant_id, r.qty
  ),
  restored as (
    update inventory.drops d
    set available_stock = d.available_stock + (select sum(c.qty) from cancelled c), updated_at = now()
    where d.id = p_drop_id and exists (select from cancelled)
  ),
  variants_restored as (
    update inventory.variants v
    set available_stock = v.available_stock + back.units, updated_at = now()
    from (select c.variant_id, sum(c.qty) as units from cancelled c where c.variant_id is not null group by c.variant_id) back
    where v.drop_id = p_drop_id and v.id = back.variant_id
  )
  select count(*) into v_cancelled from cancelled;

  -- After the live ones, because this step waits for nothing: a transaction that waits must hold locks in the order of ids only.
  perform from inventory.expire_due(p_drop_id, v_due_ids);

  return query
  select
    q.ordinality::integer,
    case
      when own.id is null and known.id is null then 'AUTH_REQUIRED'
      when own.id is null then 'RESERVATION_NOT_FOUND'
      when own.status = 'CANCELLED' then null
      when own.status = 'EXPIRED' then 'RESERVATION_EXPIRED'
      else 'RESERVATION_NOT_ACTIVE'
    end,
    case when own.status = 'CANCELLED' then own.reservation end
  from unnest(p_requests) with ordinality q
  left join lateral (
    select r.id, (inventory.reservation_row(r)).status, inventory.reservation_row(r) as reservation
    from inventory.reservations r
    where r.id = q.reservation_id and r.drop_id = p_drop_id and r.user_id = q.user_id
    limit 1
  ) own on true
  left join lateral (
    select u.id from inventory.users u where u.id = q.user_id limit 1
  ) known on true
  order by q.ordinality;
end
$$;

comment on function inventory.cancel_on_drop(uuid, api.cancel_request[]) is
'Give back units that users hold on one drop; one outcome per request, nothing raised for a refusal.';
