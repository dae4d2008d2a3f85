-- inventory.note_stock: trigger on drops: note what an update did to the stock of drops. The commit announces it, and refuses what
-- does not balance.
--
-- Locks: only this transaction's own rows of inventory.changes, which no other transaction touches. Errors: none.
--
-- Plans: it adds up old and new rows and does not join them, because a session keeps its plan, and a nested loop that was planned
-- for one row is very slow for many. The condition on old rows repeats inventory.is_public, because that function cannot take a row
-- of old_rows.

create or replace function inventory.note_stock()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into inventory.changes as c (drop_id, is_stock_updated, was_public, added_total, added_available)
  select s.id, sum(s.available_stock) <> 0, bool_or(s.was_public), sum(s.total_stock), sum(s.available_stock)
  from (
    select n.id, n.total_stock, n.available_stock, null::boolean as was_public from new_rows n
    union all
    select
      o.id, - o.total_stock, - o.available_stock, o.status <> 'draft' and (o.status <> 'cancelled' or o.was_published)
    from old_rows o
  ) s
  group by s.id
  having sum(s.total_stock) <> 0 or sum(s.available_stock) <> 0
  on conflict (transaction_id, drop_id) do update
  set
    is_stock_updated = c.is_stock_updated or excluded.is_stock_updated,
    was_public = coalesce(c.was_public, excluded.was_public),
    added_total = c.added_total + excluded.added_total,
    added_available = c.added_available + excluded.added_available;
  return null;
end
$$;

comment on function inventory.note_stock() is
'Trigger: note what an update did to the stock of drops; the commit announces and checks it.';
