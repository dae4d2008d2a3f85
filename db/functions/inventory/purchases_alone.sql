-- inventory.purchases_alone: the numbers of those purchase requests of a call that are carried out alone, after the others.
--
-- Purpose: a step of inventory.purchase_on_drops. If a user means different holds of a drop in one call, the first request can
-- decide on the later ones: they may repeat its Idempotency-Key, or name no reservation and mean the one hold that it leaves.
-- Then all but the first one go alone. p_holds[n] is the hold that request n means, as inventory.find_holds returned it.
--
-- Locks: none. Errors: none.

create or replace function inventory.purchases_alone(p_requests api.purchase_request[], p_holds inventory.hold_facts[])
returns integer[]
language sql immutable
as $$
  select array_agg(q.n::integer order by q.n)
  from (
    select
      q.n, min(q.n) over same_user as first_n, min(q.meant) over same_user <> max(q.meant) over same_user as differ,
      bool_or(q.reservation_id is null or q.repeats_key) over same_user as depend
    from (
      select
        q.drop_id, q.user_id, q.reservation_id, q.n,
        coalesce(q.reservation_id::text, q.hold_id::text, '') as meant,
        count(q.idempotency_key) over (partition by q.drop_id, q.user_id, q.idempotency_key) > 1 as repeats_key
      from rows from (unnest(p_requests), unnest(p_holds)) with ordinality as q (
        drop_id, user_id, idempotency_key, reservation_id, hold_id, is_due, has_several, variant_id, qty, unit_price, currency, n)
    ) q
    window same_user as (partition by q.drop_id, q.user_id)
  ) q
  where q.differ and q.depend and q.n > q.first_n
$$;

comment on function inventory.purchases_alone(api.purchase_request[], inventory.hold_facts[]) is
'The numbers of the purchase requests of a call that are carried out alone, after the others; null if there are none.';
