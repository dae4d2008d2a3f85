-- migrate:up

-- What functions write is not checked again as if it were made by hand.
--
-- A hold has no foreign key to its user any more, because that looks up and locks the user for each hold, which was a tenth of the
-- cost of a call for 31. Reserves have looked up the user, and triggers say the same of what is done by hand. Users stay.
--
-- A new drop has no holds, so nothing of it is ever due until the first of them ends. In the first minute of a sale no call has to look
-- for what is due; until now the bound began at the beginning of time, and the first look moved it to now. A bound that is later than now
-- has to be moved by every change by hand that makes something end earlier, and not only by one that makes it due.
--
-- The functions of the two triggers belong to the migration and are no function files, so that the version before may put its own back.

set local statement_timeout = '60s';

-- All tables at once. Calls in progress lock them in several orders, so this gives way and tries again before a deadlock is found.
do $$
declare
  v_gives_up_at timestamptz := clock_timestamp() + interval '5 seconds';
begin
  loop
    begin
      set local lock_timeout = '200ms';
      lock table inventory.drops, inventory.reservations, inventory.purchases, inventory.users, inventory.changes
        in access exclusive mode;
      return;
    exception when lock_not_available then
      if clock_timestamp() > v_gives_up_at then
        raise;
      end if;
      perform pg_sleep(0.05);
    end;
  end loop;
end
$$;
set local lock_timeout = '5s';

-- squawk-ignore ban-drop-constraint
alter table inventory.reservations drop constraint reservations_user_id_fkey;

-- What a foreign key of the reservations would do. Users without holds stay, too, because one may be getting a hold at this moment.
create function inventory.keep_users() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op <> 'TRUNCATE' or exists (select from inventory.reservations) then
    raise foreign_key_violation using
      message = 'users stay, and keep their ids',
      detail = 'Reservations and purchases name them.',
      hint = 'To forget who a user is: select api.forget_user(''<user>'');';
  end if;
  return null;
end
$$;
comment on function inventory.keep_users() is
'Trigger: refuse to delete users, or to give one another id. They may be emptied together with the reservations.';
revoke all on function inventory.keep_users() from public;
create trigger users_delete_keep after delete on inventory.users for each row execute function inventory.keep_users();
create trigger users_update_keep after update of id on inventory.users
  for each row when (new.id <> old.id) execute function inventory.keep_users();
create trigger users_truncate_keep after truncate on inventory.users for each statement execute function inventory.keep_users();

-- No function gives a hold to another user. New holds are checked by inventory.note_reservations.
create function inventory.check_user_of_hold() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from inventory.users u where u.id = new.user_id) then
    raise foreign_key_violation using
      message = format('there is no user %s', new.user_id),
      constraint = 'reservations_user_id', table = tg_table_name, schema = tg_table_schema;
  end if;
  return null;
end
$$;
comment on function inventory.check_user_of_hold() is 'Trigger: refuse to give a hold to a user who does not exist.';
revoke all on function inventory.check_user_of_hold() from public;
create trigger reservations_user_check after update of user_id on inventory.reservations
  for each row when (new.user_id <> old.user_id) execute function inventory.check_user_of_hold();

alter table inventory.drops alter column nothing_due_before set default 'infinity';
comment on column inventory.drops.nothing_due_before is
'No ACTIVE hold and no pending purchase of the drop ends before this time. A search for what is due begins here, so it does not visit all that were sold.';

drop trigger reservations_earlier_end on inventory.reservations;
create trigger reservations_earlier_end after update of drop_id, status, expires_at on inventory.reservations
  for each row when (
    new.status = 'ACTIVE' and (old.status <> 'ACTIVE' or new.drop_id <> old.drop_id or new.expires_at < old.expires_at))
  execute function inventory.note_earlier_end();
drop trigger purchases_earlier_end on inventory.purchases;
create trigger purchases_earlier_end after update of drop_id, status, payment_expires_at on inventory.purchases
  for each row when (
    new.status = 'pending' and new.payment_expires_at is not null
    and (old.status <> 'pending' or new.drop_id <> old.drop_id or new.payment_expires_at < old.payment_expires_at))
  execute function inventory.note_earlier_payment_end();

-- migrate:down

set local statement_timeout = '60s';

do $$
declare
  v_gives_up_at timestamptz := clock_timestamp() + interval '5 seconds';
begin
  loop
    begin
      set local lock_timeout = '200ms';
      lock table inventory.drops, inventory.reservations, inventory.purchases, inventory.users, inventory.changes
        in access exclusive mode;
      return;
    exception when lock_not_available then
      if clock_timestamp() > v_gives_up_at then
        raise;
      end if;
      perform pg_sleep(0.05);
    end;
  end loop;
end
$$;
set local lock_timeout = '5s';

drop trigger purchases_earlier_end on inventory.purchases;
create trigger purchases_earlier_end after update of payment_expires_at on inventory.purchases
  for each row when (new.status = 'pending' and new.payment_expires_at <= now())
  execute function inventory.note_earlier_payment_end();
drop trigger reservations_earlier_end on inventory.reservations;
create trigger reservations_earlier_end after insert or update of status, expires_at on inventory.reservations
  for each row when (new.status = 'ACTIVE' and new.expires_at <= now()) execute function inventory.note_earlier_end();
-- These triggers move a bound only to what is due.
update inventory.drops set nothing_due_before = now() where nothing_due_before > now();
comment on column inventory.drops.nothing_due_before is
'No ACTIVE hold of the drop ends before this time. A search for due holds begins here, so it does not visit all that were sold.';
alter table inventory.drops alter column nothing_due_before set default '-infinity';

drop trigger reservations_user_check on inventory.reservations;
drop trigger users_delete_keep on inventory.users;
drop trigger users_update_keep on inventory.users;
drop trigger users_truncate_keep on inventory.users;
-- squawk-ignore ban-drop-function
drop function inventory.check_user_of_hold(), inventory.keep_users();
-- squawk-ignore adding-foreign-key-constraint, constraint-missing-not-valid
alter table inventory.reservations add constraint reservations_user_id_fkey foreign key (user_id) references inventory.users (id);
