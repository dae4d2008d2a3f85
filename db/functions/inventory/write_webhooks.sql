-- inventory.write_webhooks: write the messages for webhook endpoints about what a transaction did to drops.
--
-- Purpose: inventory.publish_changes calls it at the commit with the notes of the transaction and the drops as they are in the
-- end, if any endpoint wants a message of one of p_types. A message has what the seller may know, so it has more than the public
-- events, and it is never notified: api.take_webhook_deliveries gives it to the service.
--
-- A purchase or a drop has one message of a transaction, by what it is in the end. Sold out is a drop of which the last unit was
-- paid, so that no unit is in stock, held, or waits for its payment.
--
-- Locks: the calling function holds the lock that orders events, so the ids of messages are in commit order. Errors: none.

create or replace function inventory.write_webhooks(p_changes inventory.changes[], p_drops inventory.drops[], p_types text[])
returns void
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  v_change inventory.changes;
  v_drop inventory.drops;
  v_type text;
begin
  for i in 1 .. cardinality(p_changes) loop
    v_change := p_changes[i];
    v_drop := p_drops[i];
    continue when v_drop.id is null;

    v_type := case
      when v_change.is_created then 'drop.created'
      when v_change.is_updated and v_change.is_cancelled is not true then 'drop.updated'
    end;
    if v_type = any (p_types) then
      perform inventory.write_drop_webhook(v_type, v_drop);
    end if;
    if v_change.expired_ids <> '{}' and 'hold.expired' = any (p_types) then
      insert into inventory.webhook_messages (drop_id, type, data)
      select v_drop.id, 'hold.expired', to_json(e)
      from unnest(v_change.expired_ids) with ordinality as x (id, n)
      cross join lateral (select r from inventory.reservations r where r.id = x.id and r.drop_id = v_drop.id limit 1) hold
      cross join lateral (
        select to_json(shown) as reservation
        from (
          select (inventory.reservation_row(hold.r)).*, u.username, v.name as variant_name
          from (select) one
          left join inventory.users u on u.id = (hold.r).user_id
          left join inventory.variants v on v.id = (hold.r).variant_id and v.drop_id = v_drop.id
        ) shown
      ) e
      order by x.n;
    end if;
    if v_change.purchased_ids <> '{}' or v_change.changed_purchase_ids is not null then
      insert into inventory.webhook_messages (drop_id, type, data)
      select v_drop.id, sale.type, to_json(e)
      from (
        select c.id, min(c.n) as n
        from unnest(v_change.purchased_ids || v_change.changed_purchase_ids) with ordinality as c (id, n)
        group by c.id
      ) x
      cross join lateral (
        select
          p,
          case p.status
            when 'pending' then 'purchase.pending'
            when 'paid' then case when p.refunded_qty = 0 then 'purchase.paid' else 'purchase.refunded' end
            when 'refunded' then 'purchase.refunded'
            else 'purchase.cancelled'
          end as type
        from inventory.purchases p
        where p.id = x.id and p.drop_id = v_drop.id
        limit 1
      ) sale
      cross join lateral (
        select to_json(shown) as purchase
        from (
          select (inventory.purchase_row(sale.p)).*, u.username, v.name as variant_name
          from (select) one
          left join inventory.users u on u.id = (sale.p).user_id
          left join inventory.variants v on v.id = (sale.p).variant_id and v.drop_id = v_drop.id
        ) shown
      ) e
      where sale.type = any (p_types)
      order by x.n;
    end if;
    if
      'drop.sold_out' = any (p_types) and v_drop.available_stock = 0
      and (v_change.purchased_ids <> '{}' or v_change.added_total < 0 and v_change.is_cancelled is not true)
      and not exists (
        select from inventory.reservations r
        where r.drop_id = v_drop.id and r.status = 'ACTIVE' and r.expires_at >= '-infinity'
      )
      and not exists (
        select from inventory.purchases p
        where p.drop_id = v_drop.id and p.status = 'pending' and p.created_at >= '-infinity'
      )
    then
      perform inventory.write_drop_webhook('drop.sold_out', v_drop);
    end if;
    if v_change.is_cancelled and v_drop.status = 'cancelled' and 'drop.cancelled' = any (p_types) then
      perform inventory.write_drop_webhook('drop.cancelled', v_drop);
    end if;
  end loop;
end
$$;

comment on function inventory.write_webhooks(inventory.changes[], inventory.drops[], text[]) is
'Write the messages for webhook endpoints about what a transaction did to drops.';
