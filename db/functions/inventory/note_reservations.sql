-- inventory.note_reservations: trigger on reservations: note which reservations expired. The commit announces the notes.
--
-- Locks: only this transaction's own rows of inventory.changes, which no other transaction touches. Errors: none.
--
-- Plans: it uses except and does not join old and new rows, because a session keeps its plan: a nested loop that was planned for
-- one row is quadratic, and so very slow, for a thousand rows.

create or replace function inventory.note_reservations()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into inventory.changes as c (drop_id, expired_ids)
  select e.drop_id, array_agg(e.id)
  from (
    select n.drop_id, n.id from new_rows n where n.status = 'EXPIRED'
    except
    select o.drop_id, o.id from old_rows o where o.status = 'EXPIRED'
  ) e
  group by e.drop_id
  on conflict (transaction_id, drop_id) do update set expired_ids = c.expired_ids || excluded.expired_ids;
  return null;
end
$$;

comment on function inventory.note_reservations() is 'Trigger: note which reservations expired; the commit announces them.';
