-- inventory.end_payments: mark those of these payments that are not paid yet as cancelled, and write that their provider is to be
-- told.
--
-- Locks: the caller has locked their purchases, or some. The payments in the order of their ids. Errors: none.
-- Plans: see db/README.md, 'Plans'.

create or replace function inventory.end_payments(p_payment_ids uuid[], p_tells_provider boolean default true)
returns void
language sql
set enable_seqscan = off
set enable_bitmapscan = off
as $$
  with ended as (
    update inventory.payments y
    set status = 'cancelled', updated_at = now()
    where y.id = any (p_payment_ids) and y.status <> all (array['paid', 'cancelled', 'refunded'])
    returning y.id, y.drop_id, y.amount
  )
  insert into inventory.provider_calls (drop_id, payment_id, action, amount)
  select e.drop_id, e.id, 'cancel', e.amount from ended e where p_tells_provider order by e.id
$$;

comment on function inventory.end_payments(uuid[], boolean) is
'Mark those of these payments that are not paid as cancelled, and write that their provider is to be told.';
