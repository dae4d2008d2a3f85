-- inventory.purchase_many: turn the holds of many users on one drop into purchases, in the order given.
--
-- Purpose: the one implementation of purchasing; api.purchase and api.purchase_batch are its faces.
--
-- Locks, in this order: the drop's row, only when a hold among them has run out and its unit must go back; then reservations in
-- the order of their ids. The happy path does not touch the drop: stock was taken by the reserve. Whether a hold has run out is
-- known before anything is locked, for now() and expires_at stand still throughout the transaction.
--
-- Errors: VALIDATION_ERROR (a key). Nothing else is raised; each request has its code: AUTH_REQUIRED, DROP_NOT_FOUND,
-- NO_ACTIVE_RESERVATION, RESERVATION_EXPIRED. A repeated Idempotency-Key is no error: it answers the first purchase as it
-- is now.
--
-- Plans: lateral probes with a limit as in inventory.reserve_many; = any (array) with <> all as in inventory.expire_many. The
-- latter also visits the primary key in order, which is what locks reservations in the order of their ids.

create or replace function inventory.purchase_many(
  p_drop_id uuid,
  p_user_ids uuid[],
  p_idempotency_keys text[]
)
returns table (n integer, code text, replayed boolean, purchase api.purchase)
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_drop_exists boolean := exists (select from inventory.drops d where d.id = p_drop_id);
  v_held_ids uuid[];    -- the hold each request means to consume, null where there is none
  v_held_due boolean[]; -- has it run out?
  v_live_ids uuid[];
  v_due_ids uuid[];
  v_consumed_ids uuid[];
begin
  perform inventory.check_keys(p_idempotency_keys);

  select
    array_agg(held.id order by q.n),
    array_agg(held.due order by q.n),
    array_agg(distinct held.id) filter (where not held.due),
    array_agg(distinct held.id) filter (where held.due)
  into v_held_ids, v_held_due, v_live_ids, v_due_ids
  from rows from (unnest(p_user_ids), unnest(p_idempotency_keys)) with ordinality as q (user_id, idempotency_key, n)
  left join lateral (
    select p.id
    from inventory.purchases p
    where p.drop_id = p_drop_id and p.user_id = q.user_id and p.idempotency_key = q.idempotency_key
    limit 1
  ) prior on true
  left join lateral (
    select r.id, r.expires_at <= now() as due
    from inventory.reservations r
    where r.drop_id = p_drop_id and r.user_id = q.user_id and r.status = 'ACTIVE'
    limit 1
  ) held on prior.id is null;

  -- All the holds at once, then: the live ones and, behind the drop, those that have run out. A copy of a request that is still
  -- under way with one of them is waited for, so that its outcome can be told.
  if v_due_ids is not null then
    perform inventory.await_purchases(p_drop_id, v_live_ids || v_due_ids);
    perform from inventory.drops d where d.id = p_drop_id for no key update;
    perform
    from inventory.reservations r
    where r.id = any (v_live_ids || v_due_ids) and r.drop_id = p_drop_id
    order by r.id
    for no key update;
    perform from inventory.expire_many(p_drop_id, v_due_ids);
  end if;

  with consumed as (
    update inventory.reservations r
    set status = 'CONSUMED', updated_at = now()
    where r.id = any (v_live_ids) and r.drop_id = p_drop_id
      and r.status <> all (array['EXPIRED', 'CANCELLED', 'CONSUMED'])
    returning r.id
  )
  select array_agg(consumed.id) into v_consumed_ids from consumed;

  -- A hold that is not among the consumed has run out, or was taken meanwhile by another call: a cancel, the sweep, or a copy of
  -- this request. This later snapshot sees which.
  return query
  with request as materialized (
    select
      q.n,
      q.user_id,
      q.idempotency_key,
      q.held_id,
      q.held_due,
      coalesce(
        not q.held_due and (cardinality(v_consumed_ids) = cardinality(v_live_ids) or q.held_id = any (v_consumed_ids)),
        false) as consumed,
      prior.id is not null as found,
      prior.purchase,
      known.id is not null as known,
      lost.status as lost_status,
      inventory.uuid_v7() as new_id
    from rows from (unnest(p_user_ids), unnest(p_idempotency_keys), unnest(v_held_ids), unnest(v_held_due))
      with ordinality as q (user_id, idempotency_key, held_id, held_due, n)
    left join lateral (
      select p.id, inventory.purchase_row(p) as purchase
      from inventory.purchases p
      where p.drop_id = p_drop_id and p.user_id = q.user_id and p.idempotency_key = q.idempotency_key
      limit 1
    ) prior on true
    left join lateral (
      select u.id from inventory.users u where q.held_id is null and u.id = q.user_id limit 1
    ) known on true
    left join lateral (
      select r.status
      from inventory.reservations r
      where (q.held_due or cardinality(v_consumed_ids) is distinct from cardinality(v_live_ids))
        and r.id = q.held_id and r.drop_id = p_drop_id
      limit 1
    ) lost on true
  ),
  -- The first request of a user in this call consumes the hold; a later one finds it gone, or repeats the first's key.
  decided as materialized (
    select
      q.*,
      q.n = first_value(q.n) over same_hold as leads,
      first_value(q.new_id) over same_hold as first_id,
      q.n > first_value(q.n) over same_hold
        and coalesce(q.idempotency_key = first_value(q.idempotency_key) over same_hold, false) as repeats_first
    from request q
    window same_hold as (partition by q.held_id order by q.n)
  ),
  sold as (
    insert into inventory.purchases (id, drop_id, reservation_id, user_id, status, idempotency_key)
    select d.new_id, p_drop_id, d.held_id, d.user_id, 'paid', d.idempotency_key
    from decided d
    where d.consumed and d.leads
    order by d.n
  )
  select
    d.n::integer,
    case
      when d.consumed and (d.leads or d.repeats_first) then null
      when d.consumed then 'NO_ACTIVE_RESERVATION'
      when d.found then null
      when d.leads and d.lost_status = 'EXPIRED' then 'RESERVATION_EXPIRED'
      when d.held_id is not null then 'NO_ACTIVE_RESERVATION'
      when not d.known then 'AUTH_REQUIRED'
      when not v_drop_exists then 'DROP_NOT_FOUND'
      else 'NO_ACTIVE_RESERVATION'
    end,
    d.found or (d.consumed and d.repeats_first),
    case
      when d.consumed and (d.leads or d.repeats_first) then
        row(d.first_id, p_drop_id, d.held_id, d.user_id, 1, 'paid', now(), now())::api.purchase
      when d.found then d.purchase
    end
  from decided d
  order by d.n;
end
$$;

comment on function inventory.purchase_many(uuid, uuid[], text[]) is
'Turn the holds of many users on one drop into purchases; one outcome a request, nothing raised for a refusal.';
