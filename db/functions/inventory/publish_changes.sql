-- inventory.publish_changes: at the commit, write the events of all drops that the transaction changed, as it leaves them.
--
-- Purpose: the deferred trigger changes_announce calls it. It takes all of the transaction's notes, so that they are announced in one
-- statement. The events of one drop stand together; drops come in the order of their ids.
--
-- Locks: the trigger has locked the table inventory.event_order. That is the last lock that a transaction takes, and it is held until
-- the commit is over. Ids are drawn under it, so they are in commit order: a reader who has seen one will never find a smaller one
-- appear. What is announced is read under it, too. The lock adds little waiting, because NOTIFY lets only one transaction commit at a
-- time. After "set constraints all immediate" the lock is taken, and held, from the first statement on, and what is locked after it
-- may deadlock: use that only to try things out.
--
-- Errors: integrity_constraint_violation (23000), if what the transaction did to the stock does not balance: by hand it may have
-- changed one of total_stock, available_stock, the holds and the sales without the others, of the drop or of a variant, or only one
-- of a drop and its variants; foreign_key_violation (23503), if a hold is of no drop.
--
-- The log is public, so nothing of a draft is in it. A draft that is published comes as DROP_CREATED; a drop that goes back to
-- draft, or is deleted, as DROP_REMOVED. A draft that is cancelled was never seen, and is not announced, then or later.
--
-- A hold or payment that ends while a transaction buys or pays it counts as stock in what others tell meanwhile. So the stock is
-- announced, although it does not change (inventory.variants_not_due). Of a hold that is extended it always is.
--
-- Webhook endpoints are told more, and of drafts, too: see inventory.write_webhooks. Whether there are any is read only if something
-- happened that they may want, together with what a purchase needs to know, so that a sale pays nothing for it.
--
-- Times are written in UTC, because the sessions that commit have different time zones.
--
-- Plans: inventory.announce_changes, the caller, has switched sequential and bitmap scans off.

create or replace function inventory.publish_changes(p_transaction_id xid8)
returns void
language plpgsql
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
as $$
declare
  v_changes inventory.changes[];
  v_drops inventory.drops[]; -- of each change: its drop, or nulls if it is gone
  v_drop_only_ids uuid[]; -- drops whose stock was changed, and not that of their variants
  v_change inventory.changes;
  v_drop inventory.drops;
  v_names text;
  v_webhook_types text[];
  v_is_for_webhooks boolean := false;
  v_events inventory.new_event[] := '{}';
  c_margin constant interval := '1 second'; -- for the time until the commit is visible
begin
  with taken as (
    delete from inventory.changes c
    where c.transaction_id = p_transaction_id
    returning c as change, c.drop_id, c.is_stock_updated and c.variant_ids = '{}' as is_of_drop_only
  )
  select
    array_agg(t.change order by t.drop_id), array_agg(d.drop order by t.drop_id),
    array_agg(t.drop_id) filter (
      where t.is_of_drop_only and exists (select from inventory.variants v where v.drop_id = t.drop_id))
  into v_changes, v_drops, v_drop_only_ids
  from taken t
  left join lateral (select d as drop from inventory.drops d where d.id = t.drop_id limit 1) d on true;

  for i in 1 .. cardinality(v_changes) loop
    v_change := v_changes[i];
    v_drop := v_drops[i];
    if v_change.added_total <> v_change.added_available + v_change.added_held + v_change.added_sold then
      raise exception using
        errcode = 'integrity_constraint_violation',
        message = format('the stock of drop %s does not balance', v_change.drop_id),
        detail = format(
          'total_stock changes by %s, available_stock by %s, held units by %s, sold units by %s.',
          v_change.added_total, v_change.added_available, v_change.added_held, v_change.added_sold),
        hint = 'Change the stock with the functions of the schema api, or everything that belongs to it in one transaction.';
    end if;
    if v_drop.id is null and (v_change.added_held > 0 or v_change.added_sold > 0) then
      raise foreign_key_violation using message = format('there is no drop %s', v_change.drop_id);
    end if;
    if v_change.is_updated or v_change.variant_ids <> '{}' or v_drop.id = any (v_drop_only_ids) then
      perform inventory.check_sums_of_variants(v_drop);
    end if;
    if v_change.variant_balance <> 0 then
      perform inventory.check_variants(v_change.drop_id);
    end if;
    v_is_for_webhooks := v_is_for_webhooks or v_change.changed_purchase_ids is not null;
    if v_drop.id is null or not inventory.is_public(v_drop) then
      v_is_for_webhooks := true;
      if v_change.was_public then
        v_events := v_events || row(
          v_change.drop_id, 'DROP_REMOVED',
          (select to_json(e) from (select v_change.drop_id as "dropId") e), null)::inventory.new_event;
      end if;
      continue;
    end if;
    continue when v_drop.status = 'cancelled' and not v_change.was_public;

    if v_change.is_created or v_change.is_updated then
      v_is_for_webhooks := true;
      v_events := v_events || row(
        v_drop.id,
        case when v_change.is_created or not v_change.was_public then 'DROP_CREATED' else 'DROP_UPDATED' end,
        (select to_json(e) from (select inventory.drop_row(v_drop) as drop) e), null)::inventory.new_event;
    end if;
    if v_change.expired_ids <> '{}' then
      v_is_for_webhooks := true;
      v_events := v_events || array(
        select row(v_drop.id, 'RESERVATION_EXPIRED', to_json(e), null)::inventory.new_event
        from (select v_drop.id as "dropId", x.id as "reservationId" from unnest(v_change.expired_ids) as x (id)) e);
    end if;
    if v_change.updated_payment_ids <> '{}' then
      v_events := v_events || inventory.payment_updates(v_change.updated_payment_ids);
    end if;
    if v_change.purchased_ids <> '{}' then
      v_is_for_webhooks := true;
      if v_names is null then
        select s.purchaser_names, s.webhook_types into v_names, v_webhook_types from inventory.settings s where s.is_only;
      end if;
      v_events := v_events || array(
        select row(v_drop.id, 'PURCHASE_COMPLETED', to_json(e), null)::inventory.new_event
        from (
          select
            v_drop.id as "dropId", inventory.public_name(buyer.username, v_names) as username, sale.qty,
            sale.created_at as "purchasedAt"
          from unnest(v_change.purchased_ids) with ordinality as x (id, n)
          cross join lateral (
            select p.user_id, p.qty, p.created_at, p.status from inventory.purchases p
            where p.id = x.id and p.drop_id = v_drop.id
            limit 1
          ) sale
          cross join lateral (
            select u.username from inventory.users u where u.id = sale.user_id limit 1
          ) buyer
          where sale.status = 'paid'
          order by x.n
        ) e);
    end if;
    if v_change.purchased_ids <> '{}' and not v_change.is_stock_updated
      and v_drop.nothing_due_before <= clock_timestamp() + c_margin then
      v_change.variant_ids := inventory.variants_not_due(v_change.purchased_ids, clock_timestamp() + c_margin);
      v_change.is_stock_updated := v_change.variant_ids is not null;
    end if;
    if v_change.is_stock_updated then
      if v_change.variant_ids = '{}' and v_drop.nothing_due_before >= now() then -- most commits of a drop without variants
        v_events := v_events || row(
          v_drop.id, 'STOCK_UPDATED', to_json(row(v_drop.id, v_drop.available_stock)::inventory.stock), null)::inventory.new_event;
      else
        v_events := v_events || row(
          v_drop.id, 'STOCK_UPDATED', inventory.stock_event(v_drop, v_change.variant_ids), null)::inventory.new_event;
      end if;
    end if;
    if v_change.is_activity_updated then
      v_events := v_events || row(
        v_drop.id, 'ACTIVITY_UPDATED',
        (
          select to_json(e)
          from (select v_drop.id as "dropId", l.purchasers as "latestPurchasers" from inventory.latest_purchasers(v_drop.id) l) e
        ),
        null
      )::inventory.new_event;
    end if;
  end loop;
  if cardinality(v_events) > 0 then
    perform inventory.publish(v_events);
  end if;
  if v_is_for_webhooks then
    if v_webhook_types is null then
      select s.webhook_types into v_webhook_types from inventory.settings s where s.is_only;
    end if;
    if v_webhook_types <> '{}' then
      perform inventory.write_webhooks(v_changes, v_drops, v_webhook_types);
    end if;
  end if;
end
$$;

comment on function inventory.publish_changes(xid8) is 'Announce at the commit what this transaction did to its drops.';
