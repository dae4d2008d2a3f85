-- A user may be known on each node. One who is made here is known on the first one.
create view inventory.users as
select distinct on (u.id) u.* from (select * from data_0.users union all select * from data_1.users) u order by u.id;

create function inventory.change_user()
returns trigger
language plpgsql
as $$
begin
  if tg_op = 'INSERT' then
    insert into data_0.users (id, username, created_at, updated_at)
    values (coalesce(new.id, inventory.uuid_v7()), new.username, coalesce(new.created_at, now()), coalesce(new.updated_at, now()))
    returning * into new;
  elsif tg_op = 'UPDATE' then
    update data_0.users set username = new.username where id = old.id;
    update data_1.users set username = new.username where id = old.id;
  end if;
  return new;
end
$$;

create trigger change_user instead of insert or update on inventory.users
for each row execute function inventory.change_user();
