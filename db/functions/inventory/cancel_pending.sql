-- inventory.cancel_pending: cancel the payments that are still open on a drop that is being, or was, cancelled.
--
-- Purpose: a step of api.update_drop, with p_waits; api.expire_payments calls it for what that had to leave.
--
-- A purchase that is being paid is locked. With p_waits the function waits for it, because the caller may refund what was paid:
-- an event of the provider either has committed before that, or finds the drop cancelled (inventory.receive_money).
--
-- The payment of a basket may be for other drops, too. Its units go back to all of them or to none. Because the caller holds the
-- lock of this drop, a payment of which another drop is locked is skipped and left to the next sweep.
--
-- Locks: the caller holds the drop's row. With p_waits the drop's pending purchases in the order of their ids. The rows of other
-- drops of its payments, and the purchases, with skip locked; the payments in the order of their ids. Errors: none.
-- Plans: purchases_due_idx has the pending purchases of a drop.

create or replace function inventory.cancel_pending(p_drop_id uuid, p_limit integer default 100000, p_waits boolean default false)
returns integer
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_ids uuid[];
  v_drop_ids uuid[];
begin
  if p_waits then
    perform
    from inventory.purchases p
    where p.drop_id = p_drop_id and p.status = 'pending' and p.payment_expires_at >= '-infinity'
    order by p.id
    for no key update;
  end if;
  v_ids := array(
    select distinct pending.payment_id
    from (
      select p.payment_id
      from inventory.purchases p
      where p.drop_id = p_drop_id and p.status = 'pending' and p.payment_expires_at >= '-infinity'
      order by p.payment_expires_at
      limit p_limit
    ) pending
  );
  if v_ids = '{}' then
    return 0;
  end if;
  v_drop_ids := array(
    select d.id
    from inventory.drops d
    where d.id = any (array(
        select p.drop_id from inventory.purchases p where p.payment_id = any (v_ids) and p.drop_id <> p_drop_id))
    order by d.id
    for no key update skip locked
  ) || p_drop_id;
  with locked as materialized (
    select p.payment_id
    from inventory.purchases p
    where p.payment_id = any (v_ids) and p.drop_id = any (v_drop_ids)
    order by p.id
    for no key update skip locked
  )
  select coalesce(array_agg(whole.payment_id), '{}') into v_ids
  from (select l.payment_id, count(*) as purchases from locked l group by l.payment_id) whole
  where whole.purchases = (select count(*) from inventory.purchases p where p.payment_id = whole.payment_id);
  perform inventory.cancel_payments(v_ids);
  return cardinality(v_ids);
end
$$;

comment on function inventory.cancel_pending(uuid, integer, boolean) is
'Cancel the payments that are open on a cancelled drop, and return how many. The caller holds the drop''s lock.';
