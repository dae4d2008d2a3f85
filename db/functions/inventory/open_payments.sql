-- inventory.open_payments: write the payments of new purchases, and that the provider is to create them.
--
-- Purpose: the last step of inventory.purchase_on_drops, with a provider of payments. p_purchase_ids may name purchases that were
-- not made, and some that are free, which are paid.
--
-- Locks: none. Errors: none. Plans: the caller's settings are in force. The status is compared as in inventory.expire_due, so
-- that the primary key is the only plan.

create or replace function inventory.open_payments(p_provider text, p_purchase_ids uuid[], p_basket_id uuid)
returns void
language plpgsql
as $$
begin
  with payment as (
    insert into inventory.payments (id, drop_id, basket_id, user_id, amount, currency, provider, expires_at)
    select
      p.payment_id, (array_agg(p.drop_id order by p.id))[1], p_basket_id, p.user_id, sum(p.amount), min(p.currency), p_provider,
      max(p.payment_expires_at)
    from inventory.purchases p
    where p.id = any (p_purchase_ids) and p.status <> all (array['paid', 'failed', 'cancelled', 'refunded'])
    group by p.payment_id, p.user_id
    order by p.payment_id
    returning id, drop_id, amount
  )
  insert into inventory.provider_calls (drop_id, payment_id, action, amount)
  select y.drop_id, y.id, 'create', y.amount from payment y;
end
$$;

comment on function inventory.open_payments(text, uuid[], uuid) is
'Write the payments of new purchases, and that the provider is to create them.';
