-- inventory.note_reservations: trigger on reservations: note which ones expired, to be announced at the commit.
--
-- Locks: none but of its own rows of inventory.changes, which no other transaction touches. Errors: none.
--
-- Plans: except, and no join of old and new rows, for a join's plan made for one row is kept and takes ages for a thousand.

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

comment on function inventory.note_reservations() is 'Trigger: note which reservations expired, to be announced at the commit.';
