-- inventory.plan_payments: the id and the end of the payment of each hold that is being bought.
--
-- Purpose: a step of inventory.purchase_on_drops, with a provider of payments. What is free needs no payment: its id is null.
-- With p_is_one all holds share one payment, that of a basket.
--
-- A payment ends when the hold would have ended, or later. So it is never due before nothing_due_before of its drop, and a
-- purchase need not lock the drop.
--
-- Locks: none. Errors: none. Plans: as in inventory.purchase_on_drops.

create or replace function inventory.plan_payments(
  p_holds inventory.hold_facts[], p_is_one boolean, out payment_ids uuid[], out ends timestamptz[]
)
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_new_ids uuid[] := inventory.new_ids(cardinality(p_holds));
  v_ends_at timestamptz := (
    select now() + make_interval(secs => s.payment_ttl_seconds) from inventory.settings s where s.is_only);
begin
  select
    array_agg(case when h.qty * h.unit_price > 0 then case when p_is_one then v_new_ids[1] else v_new_ids[h.ordinality] end end
      order by h.ordinality),
    array_agg(case when h.qty * h.unit_price > 0 then greatest(held.expires_at, v_ends_at) end order by h.ordinality)
  into payment_ids, ends
  from unnest(p_holds) with ordinality h
  left join lateral (
    select r.expires_at from inventory.reservations r where r.id = h.hold_id limit 1
  ) held on true;
  if p_is_one then
    ends := array(
      select case when u.e is not null then (select max(x) from unnest(ends) x) end
      from unnest(ends) with ordinality as u (e, n)
      order by u.n
    );
  end if;
end
$$;

comment on function inventory.plan_payments(inventory.hold_facts[], boolean) is
'The id and the end of the payment of each hold that is being bought; nulls for one that is free.';
