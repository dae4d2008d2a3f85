-- inventory.note_purchases: trigger on purchases: note which purchases were made, paid or changed, the drops whose latest purchasers
-- may have changed, and how many units more are sold. The commit announces the notes, and refuses what does not balance.
--
-- Purchases come in the order of their ids, which is the order in which they were made (inventory.new_ids).
--
-- Of purchases that are inserted by hand it lets the search for what is due begin at the first end of a payment, and refuses those
-- whose reservation does not exist, as a foreign key would. Those of inventory.purchase_on_drops end with their holds or later, so they
-- move nothing, and each is of a hold that was consumed, and of its drop and variant (lastpair.is_by_hand is off then).
--
-- Locks: only this transaction's own rows of inventory.changes, which no other transaction touches; of purchases by hand the
-- reservations, in the order of their ids, so that none is deleted meanwhile, and then as in inventory.note_reservations.
-- Errors: foreign_key_violation (23503).
--
-- Plans: it uses except and no join, for the reason in inventory.note_reservations.

create or replace function inventory.note_purchases()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_is_by_hand boolean := current_setting('lastpair.is_by_hand', true) is distinct from 'off';
begin
  if tg_op = 'INSERT' then
    insert into inventory.changes as c (drop_id, is_activity_updated, purchased_ids, added_sold, variant_balance)
    select
      n.drop_id, bool_or(n.status = 'paid'), array_agg(n.id order by n.id),
      coalesce(sum(n.qty - n.refunded_qty) filter (where n.status in ('pending', 'paid')), 0),
      coalesce(
        sum(inventory.variant_weight(n.variant_id) * (n.qty - n.refunded_qty))
          filter (where v_is_by_hand and n.status in ('pending', 'paid')), 0)
    from new_rows n
    group by n.drop_id
    on conflict (transaction_id, drop_id) do update
    set
      is_activity_updated = c.is_activity_updated or excluded.is_activity_updated,
      purchased_ids = c.purchased_ids || excluded.purchased_ids,
      added_sold = c.added_sold + excluded.added_sold,
      variant_balance = c.variant_balance + excluded.variant_balance;
    if v_is_by_hand then
      perform from inventory.reservations r
      where r.id = any (array(select n.reservation_id from new_rows n))
      order by r.id
      for key share;
      if exists (
        select
        from new_rows n
        where not exists (select from inventory.reservations r where r.id = n.reservation_id and r.drop_id = n.drop_id)
      ) then
        raise foreign_key_violation using
          message = 'a purchase is of a reservation that does not exist, or is of another drop',
          constraint = 'purchases_reservation_id', table = tg_table_name, schema = tg_table_schema;
      end if;
      perform inventory.expect_due_at(array_agg(n.drop_id), array_agg(n.payment_expires_at))
      from new_rows n
      where n.status = 'pending';
    end if;
  elsif tg_op = 'DELETE' then
    insert into inventory.changes as c (drop_id, is_activity_updated, added_sold, variant_balance)
    select
      o.drop_id, true, - coalesce(sum(o.qty - o.refunded_qty) filter (where o.status in ('pending', 'paid')), 0),
      - coalesce(
        sum(inventory.variant_weight(o.variant_id) * (o.qty - o.refunded_qty)) filter (where o.status in ('pending', 'paid')), 0)
    from old_rows o
    group by o.drop_id
    on conflict (transaction_id, drop_id) do update
    set
      is_activity_updated = true,
      added_sold = c.added_sold + excluded.added_sold,
      variant_balance = c.variant_balance + excluded.variant_balance;
  else
    insert into inventory.changes as c (
      drop_id, is_activity_updated, purchased_ids, changed_purchase_ids, added_sold, variant_balance)
    select
      e.drop_id, bool_or(e.is_activity), coalesce(array_agg(e.id) filter (where e.is_paid), '{}'),
      array_agg(e.id) filter (where e.is_changed), sum(e.units),
      coalesce(sum(inventory.variant_weight(e.variant_id) * e.units), 0)
    from (
      (
        select n.drop_id, n.id, true as is_paid, false as is_changed, false as is_activity, 0 as units, null::uuid as variant_id
        from new_rows n
        where n.status = 'paid'
        except
        select o.drop_id, o.id, true, false, false, 0, null from old_rows o where o.status = 'paid'
      )
      union all
      (
        select o.drop_id, o.id, false, false, true, 0, null::uuid from old_rows o where o.status = 'paid'
        except
        select n.drop_id, n.id, false, false, true, 0, null from new_rows n where n.status = 'paid'
      )
      union all
      select shown.drop_id, null, false, false, true, 0, null
      from (
        select n.drop_id, n.id, n.user_id, n.qty, n.refunded_qty, n.created_at from new_rows n where n.status = 'paid'
        except
        select o.drop_id, o.id, o.user_id, o.qty, o.refunded_qty, o.created_at from old_rows o where o.status = 'paid'
      ) shown
      union all
      select changed.drop_id, changed.id, false, true, false, 0, null
      from (
        select n.drop_id, n.id, n.status, n.refunded_qty from new_rows n
        except
        select o.drop_id, o.id, o.status, o.refunded_qty from old_rows o
      ) changed
      union all
      select n.drop_id, null, false, false, false, n.qty - n.refunded_qty, n.variant_id
      from new_rows n
      where n.status in ('pending', 'paid')
      union all
      select o.drop_id, null, false, false, false, o.refunded_qty - o.qty, o.variant_id
      from old_rows o
      where o.status in ('pending', 'paid')
    ) e
    group by e.drop_id
    on conflict (transaction_id, drop_id) do update
    set
      is_activity_updated = c.is_activity_updated or excluded.is_activity_updated,
      purchased_ids = c.purchased_ids || excluded.purchased_ids,
      changed_purchase_ids = c.changed_purchase_ids || excluded.changed_purchase_ids,
      added_sold = c.added_sold + excluded.added_sold,
      variant_balance = c.variant_balance + excluded.variant_balance;
  end if;
  return null;
end
$$;

comment on function inventory.note_purchases() is
'Trigger: note which purchases were paid or taken back, and how many units more are sold; the commit announces and checks it.';
