-- inventory.note_user: trigger on users: note the drops whose latest purchasers show a user who was renamed. The commit announces it.
--
-- It looks at the drops that the user bought.
--
-- Locks: only this transaction's own rows of inventory.changes, which no other transaction touches. Errors: none.

create or replace function inventory.note_user()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into inventory.changes as c (drop_id, is_activity_updated)
  select d.id, true
  from (select distinct p.drop_id as id from inventory.purchases p where p.user_id = new.id and p.status = 'paid') d
  where new.id in (
    select latest.user_id
    from (
      select p.user_id
      from inventory.purchases p
      where p.drop_id = d.id and p.status = 'paid'
      order by p.created_at desc, p.id desc
      limit 3
    ) latest
  )
  order by d.id
  on conflict (transaction_id, drop_id) do update set is_activity_updated = true;
  return null;
end
$$;

comment on function inventory.note_user() is 'Trigger: note the drops that show a user who was renamed; the commit announces it.';
