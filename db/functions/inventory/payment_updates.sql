-- inventory.payment_updates: the events that tell buyers what became of their payments, as the transaction leaves them.
--
-- Purpose: a step of inventory.publish_changes. Each event is for the buyer alone. While the payment can still be paid, it has
-- what the buyer pays with.
--
-- Locks: none. Errors: none. Plans: the caller's settings are in force, see inventory.publish_changes.

create or replace function inventory.payment_updates(p_payment_ids uuid[])
returns inventory.new_event[]
language plpgsql stable
as $$
begin
  return array(
    select row(
      y.drop_id, 'PAYMENT_UPDATED',
      (
        select to_json(e)
        from (
          select
            y.drop_id as "dropId",
            json_strip_nulls(json_build_object(
              'id', y.id, 'amount', y.amount, 'currency', y.currency, 'status', y.status, 'refunded_amount', y.refunded_amount,
              'expires_at', y.expires_at, 'client_secret', y.client_secret, 'url', y.url)) as payment
        ) e
      ),
      y.user_id)::inventory.new_event
    from (
      select r.*
      from inventory.payments stored
      cross join lateral inventory.payment_row(stored) r
      where stored.id = any (p_payment_ids)
      order by stored.id
    ) y
  );
end
$$;

comment on function inventory.payment_updates(uuid[]) is
'The events that tell the buyers of these payments what became of them.';
