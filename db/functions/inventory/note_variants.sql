-- inventory.note_variants: trigger on variants: note that variants are new, changed or gone, or that their stock changed. The commit
-- announces it with the drop, and refuses what does not balance.
--
-- While inventory.write_holds writes (lastpair.is_by_hand is off then), only the stock of variants changes, and of each that is
-- written. It balances with the new holds.
--
-- Locks: only this transaction's own rows of inventory.changes, which no other transaction touches. Errors: none.
--
-- Plans: it uses except and does not join old and new rows, as inventory.note_reservations does, and for the same reason.

create or replace function inventory.note_variants()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    insert into inventory.changes as c (drop_id, is_updated, variant_balance)
    select n.drop_id, true, sum(inventory.variant_weight(n.id) * (n.available_stock - n.total_stock))
    from new_rows n
    group by n.drop_id
    on conflict (transaction_id, drop_id) do update
    set is_updated = true, variant_balance = c.variant_balance + excluded.variant_balance;
  elsif tg_op = 'DELETE' then
    insert into inventory.changes as c (drop_id, is_updated, variant_balance)
    select o.drop_id, true, sum(inventory.variant_weight(o.id) * (o.total_stock - o.available_stock))
    from old_rows o
    group by o.drop_id
    on conflict (transaction_id, drop_id) do update
    set is_updated = true, variant_balance = c.variant_balance + excluded.variant_balance;
  elsif current_setting('lastpair.is_by_hand', true) = 'off' then
    insert into inventory.changes as c (drop_id, is_stock_updated, variant_ids)
    select n.drop_id, true, array_agg(n.id) from new_rows n group by n.drop_id
    on conflict (transaction_id, drop_id) do update
    set is_stock_updated = true, variant_ids = c.variant_ids || excluded.variant_ids;
  else
    insert into inventory.changes as c (drop_id, is_updated, is_stock_updated, variant_ids, variant_balance)
    select
      e.drop_id, coalesce(bool_or(not e.is_stock), false), coalesce(bool_or(e.is_stock), false),
      coalesce(array_agg(e.id) filter (where e.is_stock), '{}'), coalesce(sum(e.weight), 0)
    from (
      (
        select n.drop_id, n.id, true as is_stock, n.available_stock, null::bigint as weight from new_rows n
        except
        select o.drop_id, o.id, true, o.available_stock, null from old_rows o
      )
      union all
      select n.drop_id, null, null, null, inventory.variant_weight(n.id) * (n.available_stock - n.total_stock) from new_rows n
      union all
      select o.drop_id, null, null, null, inventory.variant_weight(o.id) * (o.total_stock - o.available_stock) from old_rows o
      union all
      select changed.drop_id, changed.id, false, null, null
      from (
        select n.drop_id, n.id, n.name, n.price, n.total_stock, n.position from new_rows n
        except
        select o.drop_id, o.id, o.name, o.price, o.total_stock, o.position from old_rows o
      ) changed
      union all
      ( -- by hand a variant may be moved to another drop
        select o.drop_id, o.id, false, null::integer, null::bigint from old_rows o
        except
        select n.drop_id, n.id, false, null, null from new_rows n
      )
    ) e
    group by e.drop_id
    having count(e.is_stock) > 0
    on conflict (transaction_id, drop_id) do update
    set
      is_updated = c.is_updated or excluded.is_updated,
      is_stock_updated = c.is_stock_updated or excluded.is_stock_updated,
      variant_ids = c.variant_ids || excluded.variant_ids,
      variant_balance = c.variant_balance + excluded.variant_balance;
  end if;
  return null;
end
$$;

comment on function inventory.note_variants() is 'Trigger: note how variants changed; the commit announces it with the drop.';
