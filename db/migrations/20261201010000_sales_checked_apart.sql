-- migrate:up

-- squawk-ignore-file prefer-robust-stmts
-- A sale has no foreign key to its hold any more, because that looks up and locks the hold for each sale, and the function that sells
-- has just changed and so locked it. Triggers say the same of what is done by hand.
--
-- The functions of the triggers belong to the migration and are no function files, so that the version before may put its own back.

set local statement_timeout = '60s';

-- All tables at once. Calls in progress lock them in several orders, so this gives way and tries again before a deadlock is found.
do $$
declare
  v_gives_up_at timestamptz := clock_timestamp() + interval '5 seconds';
begin
  loop
    begin
      set local lock_timeout = '200ms';
      lock table inventory.drops, inventory.reservations, inventory.purchases in access exclusive mode;
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
alter table inventory.purchases drop constraint purchases_reservation_fkey;

-- New sales are checked by inventory.note_purchases.
create function inventory.check_hold_of_sale() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform from inventory.reservations r where r.id = new.reservation_id and r.drop_id = new.drop_id for key share;
  if not found then
    raise foreign_key_violation using
      message = format('there is no reservation %s of drop %s', new.reservation_id, new.drop_id),
      constraint = 'purchases_reservation_id', table = tg_table_name, schema = tg_table_schema;
  end if;
  return null;
end
$$;
comment on function inventory.check_hold_of_sale() is 'Trigger: refuse to give a purchase a reservation that does not exist, or is of another drop.';
revoke all on function inventory.check_hold_of_sale() from public;
create trigger purchases_hold_check after update of reservation_id, drop_id on inventory.purchases
  for each row when (new.reservation_id <> old.reservation_id or new.drop_id <> old.drop_id)
  execute function inventory.check_hold_of_sale();

create function inventory.keep_hold_of_sale() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise foreign_key_violation using
      message = 'reservations are deleted, or given another id or drop, at READ COMMITTED only',
      detail = 'At another isolation level a purchase that has just been committed is not seen.';
  elsif exists (select from inventory.purchases p where p.reservation_id = old.id and p.drop_id = old.drop_id) then
    raise foreign_key_violation using
      message = format('reservation %s was purchased, so it stays as it is', old.id),
      constraint = 'purchases_reservation_id', table = tg_table_name, schema = tg_table_schema;
  end if;
  return null;
end
$$;
comment on function inventory.keep_hold_of_sale() is
'Trigger: refuse to delete a reservation that was purchased, or to give it another id or drop.';
revoke all on function inventory.keep_hold_of_sale() from public;
create trigger reservations_delete_keep after delete on inventory.reservations
  for each row execute function inventory.keep_hold_of_sale();
create trigger reservations_update_keep after update of id, drop_id on inventory.reservations
  for each row when (new.id <> old.id or new.drop_id <> old.drop_id) execute function inventory.keep_hold_of_sale();

create or replace function inventory.keep_together() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_table_name = 'drops' and exists (select from inventory.reservations) then
    raise foreign_key_violation using
      message = 'drops have reservations, so they cannot be emptied alone',
      hint = 'Empty inventory.reservations and inventory.purchases in the same statement.';
  elsif tg_table_name = 'reservations' and exists (select from inventory.purchases) then
    raise foreign_key_violation using
      message = 'reservations have purchases, so they cannot be emptied alone',
      hint = 'Empty inventory.purchases in the same statement.';
  elsif tg_table_name <> 'drops' and exists (select from inventory.drops) then
    raise integrity_constraint_violation using
      message = format('%s cannot be emptied without the drops, because their stock would not balance', tg_table_name),
      hint = 'Empty inventory.drops in the same statement.';
  end if;
  return null;
end
$$;

-- migrate:down

set local statement_timeout = '60s';

do $$
declare
  v_gives_up_at timestamptz := clock_timestamp() + interval '5 seconds';
begin
  loop
    begin
      set local lock_timeout = '200ms';
      lock table inventory.drops, inventory.reservations, inventory.purchases in access exclusive mode;
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

create or replace function inventory.keep_together() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_table_name = 'drops' and exists (select from inventory.reservations) then
    raise foreign_key_violation using
      message = 'drops have reservations, so they cannot be emptied alone',
      hint = 'Empty inventory.reservations and inventory.purchases in the same statement.';
  elsif tg_table_name <> 'drops' and exists (select from inventory.drops) then
    raise integrity_constraint_violation using
      message = format('%s cannot be emptied without the drops, because their stock would not balance', tg_table_name),
      hint = 'Empty inventory.drops in the same statement.';
  end if;
  return null;
end
$$;
drop trigger reservations_update_keep on inventory.reservations;
drop trigger reservations_delete_keep on inventory.reservations;
drop trigger purchases_hold_check on inventory.purchases;
-- squawk-ignore ban-drop-function
drop function inventory.keep_hold_of_sale(), inventory.check_hold_of_sale();
-- squawk-ignore adding-foreign-key-constraint, constraint-missing-not-valid
alter table inventory.purchases add constraint purchases_reservation_fkey
  foreign key (reservation_id, drop_id) references inventory.reservations (id, drop_id);
