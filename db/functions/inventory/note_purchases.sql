-- inventory.note_purchases: trigger on purchases: note which purchases were paid, and the drops whose latest purchasers may have
-- changed. The commit announces the notes.
--
-- Locks: only this transaction's own rows of inventory.changes, which no other transaction touches. Errors: none.
--
-- Plans: it uses except and no join, for the reason in inventory.note_reservations.

create or replace function inventory.note_purchases()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    insert into inventory.changes as c (drop_id, is_activity_updated, purchased_ids)
    select n.drop_id, true, array_agg(n.id order by n.n)
    from (select *, row_number() over () as n from new_rows) n
    where n.status = 'paid'
    group by n.drop_id
    on conflict (transaction_id, drop_id) do update
    set is_activity_updated = true, purchased_ids = c.purchased_ids || excluded.purchased_ids;
  else
    insert into inventory.changes as c (drop_id, is_activity_updated, purchased_ids)
    select e.drop_id, true, coalesce(array_agg(e.id) filter (where e.is_paid), '{}')
    from (
      (
        select n.drop_id, n.id, true as is_paid from new_rows n where n.status = 'paid'
        except
        select o.drop_id, o.id, true from old_rows o where o.status = 'paid'
      )
      union all
      (
        select o.drop_id, o.id, false from old_rows o where o.status = 'paid'
        except
        select n.drop_id, n.id, false from new_rows n where n.status = 'paid'
      )
    ) e
    group by e.drop_id
    on conflict (transaction_id, drop_id) do update
    set is_activity_updated = true, purchased_ids = c.purchased_ids || excluded.purchased_ids;
  end if;
  return null;
end
$$;

comment on function inventory.note_purchases() is
'Trigger: note which purchases were paid or taken back; the commit announces them.';
