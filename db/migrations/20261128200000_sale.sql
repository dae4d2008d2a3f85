-- migrate:up

-- What a real sale needs: variants, quantities, limits, baskets, and the facts of each sale (unit price, currency, amount), which
-- nothing that happens to the drop later rewrites. A drop without variants sells as before.

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

-- The decimals of a price depend on its currency, so the column has no scale any more; inventory.check_price has the rule.
-- No row is written for this, because a numeric without a scale is stored in the same way.
-- squawk-ignore changing-column-type
alter table inventory.drops alter column price type numeric;
alter table inventory.drops
  add column currency text not null default 'USD',
  add column limit_per_user integer,
  add column hold_seconds integer,
  add column rehold_after_seconds integer not null default 0,
  add column extension_seconds integer,
  add column paused_at timestamptz,
  add column nothing_due_before timestamptz not null default '-infinity';
comment on column inventory.drops.limit_per_user is 'Units that a user may hold and have bought together; null: no limit.';
comment on column inventory.drops.hold_seconds is 'How long a hold lasts; null: as long as the caller of the reserve says.';
comment on column inventory.drops.rehold_after_seconds is
'How long a user waits for the next hold after one that ran out or was cancelled.';
comment on column inventory.drops.extension_seconds is 'By how long a hold may be extended, once; null: not at all.';
comment on column inventory.drops.paused_at is 'Since when the drop is paused; null: it is not.';
comment on column inventory.drops.nothing_due_before is
'No ACTIVE hold of the drop ends before this time. A search for due holds begins here, so it does not visit all that were sold.';

-- These checks hold for every row, because the columns are new or were narrower.
-- squawk-ignore constraint-missing-not-valid
alter table inventory.drops add constraint drops_price_range_check check (price < 10000000000);
-- squawk-ignore constraint-missing-not-valid
alter table inventory.drops add constraint drops_currency_check check (currency ~ '^[A-Z]{3}$');
-- squawk-ignore constraint-missing-not-valid
alter table inventory.drops add constraint drops_limit_per_user_check check (limit_per_user > 0);
-- squawk-ignore constraint-missing-not-valid
alter table inventory.drops add constraint drops_hold_seconds_check check (hold_seconds between 1 and 86400);
-- squawk-ignore constraint-missing-not-valid
alter table inventory.drops add constraint drops_rehold_after_seconds_check check (rehold_after_seconds between 0 and 86400);
-- squawk-ignore constraint-missing-not-valid
alter table inventory.drops add constraint drops_extension_seconds_check check (extension_seconds between 1 and 86400);
comment on constraint drops_price_range_check on inventory.drops is 'price: must be less than 10000000000';
comment on constraint drops_currency_check on inventory.drops is 'currency: must be an ISO 4217 code, such as USD';
comment on constraint drops_limit_per_user_check on inventory.drops is 'limit_per_user: must be 1 or more';
comment on constraint drops_hold_seconds_check on inventory.drops is 'hold_seconds: must be between 1 and 86400';
comment on constraint drops_rehold_after_seconds_check on inventory.drops is 'rehold_after_seconds: must be between 0 and 86400';
comment on constraint drops_extension_seconds_check on inventory.drops is 'extension_seconds: must be between 1 and 86400';

-- As with drops, no index contains available_stock, so an update of the stock is HOT.
create table inventory.variants (
  id uuid not null default inventory.uuid_v7(),
  drop_id uuid not null constraint variants_drop_id_fkey references inventory.drops (id),
  name text not null,
  price numeric,
  total_stock integer not null,
  available_stock integer not null,
  position integer not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (drop_id, id),
  constraint variants_name_key unique (drop_id, name),
  constraint variants_name_check check (char_length(name) <= 200 and name ~ '\S' and name !~ '[\u0001-\u001f\u007f-\u009f]'),
  constraint variants_price_check check (price >= 0),
  constraint variants_price_range_check check (price < 10000000000),
  constraint variants_total_stock_check check (total_stock > 0),
  constraint variants_available_stock_check check (available_stock between 0 and total_stock)
) with (fillfactor = 20);
comment on table inventory.variants is 'Sizes or tiers of a drop. Their stock is changed under the lock of the drop, whose stock is the sum.';
comment on column inventory.variants.price is 'Null: the price of the drop.';
comment on column inventory.variants.position is 'Its place among the variants of the drop, from 1 on.';
comment on constraint variants_name_key on inventory.variants is 'variants.name: two variants of a drop have the same name';
comment on constraint variants_name_check on inventory.variants is
'variants.name: must be 1 to 200 characters, not all blank, without control characters';
comment on constraint variants_price_check on inventory.variants is 'variants.price: must be 0 or more';
comment on constraint variants_price_range_check on inventory.variants is 'variants.price: must be less than 10000000000';
comment on constraint variants_total_stock_check on inventory.variants is 'variants.total_stock: must be 1 or more';

-- The unit price of a hold that was made before this migration is not known; its purchase takes the drop's.
alter table inventory.reservations
  add column variant_id uuid,
  add column qty integer not null default 1,
  add column unit_price numeric,
  add column currency text,
  add column basket_id uuid,
  add column extended_at timestamptz;
-- squawk-ignore constraint-missing-not-valid
alter table inventory.reservations add constraint reservations_qty_check check (qty > 0);
comment on constraint reservations_qty_check on inventory.reservations is 'qty: must be 1 or more';
comment on column inventory.reservations.variant_id is
'There is no foreign key, because a check of each row would cost 4 % of the speed of a reserve. No function removes a variant in use.';
comment on column inventory.reservations.unit_price is 'As it was when the hold was made. Null: made before version 0.3.';
comment on column inventory.reservations.extended_at is 'When the hold was extended; null: never. It can be extended once.';
comment on table inventory.reservations is 'Units held for a user until expires_at.';

-- A foreign key is checked for each row. The functions insert holds under the lock of the drop, and at the commit the trigger that
-- publishes refuses what belongs to no drop, once for all of them; a trigger keeps a drop that has holds. A purchase has a
-- reservation, whose user exists.
-- squawk-ignore ban-drop-constraint
alter table inventory.reservations drop constraint reservations_drop_id_fkey;
-- squawk-ignore ban-drop-constraint
alter table inventory.purchases drop constraint purchases_user_id_fkey;
create function inventory.keep_drop_with_holds() returns trigger language plpgsql as 'begin return old; end';
create trigger drops_delete_keep before delete on inventory.drops
  for each row execute function inventory.keep_drop_with_holds();

-- The indexes are not made concurrently, because they are partial and their rows are the holds of the moment. Their columns are never
-- null: the predicates hide an index from queries that do not compare these columns, for which it would cost the same as the right
-- one while the table is small.
-- squawk-ignore require-concurrent-index-deletion
drop index inventory.reservations_due_idx;
-- squawk-ignore require-concurrent-index-creation
create index reservations_due_idx on inventory.reservations (drop_id, expires_at)
  where status = 'ACTIVE' and expires_at is not null and drop_id is not null;
comment on index inventory.reservations_due_idx is 'Due holds of a drop.';
-- squawk-ignore require-concurrent-index-deletion
drop index inventory.reservations_user_idx;
-- squawk-ignore require-concurrent-index-creation
create index reservations_user_idx on inventory.reservations (user_id)
  where status = 'ACTIVE' and expires_at is not null and user_id is not null;
-- squawk-ignore require-concurrent-index-deletion
drop index inventory.reservations_active_key;
-- squawk-ignore require-concurrent-index-creation
create unique index reservations_active_key on inventory.reservations (drop_id, user_id, variant_id) nulls not distinct
  where status = 'ACTIVE' and drop_id is not null and user_id is not null;
comment on index inventory.reservations_active_key is 'A user has at most one ACTIVE reservation of a variant, or of a drop without variants.';
-- squawk-ignore require-concurrent-index-creation
create index reservations_lapsed_idx on inventory.reservations (drop_id, user_id, id) where status in ('EXPIRED', 'CANCELLED');
comment on index inventory.reservations_lapsed_idx is 'The holds of a user that ran out or were cancelled, for what a late purchase is told.';
-- squawk-ignore require-concurrent-index-creation
create index reservations_basket_idx on inventory.reservations (basket_id) where basket_id is not null;
comment on index inventory.reservations_basket_idx is 'The holds of a basket.';

alter table inventory.purchases
  add column variant_id uuid,
  add column unit_price numeric,
  add column amount numeric,
  add column currency text,
  add column refunded_amount numeric,
  add column refunded_at timestamptz;
comment on column inventory.purchases.amount is 'qty × unit_price. Null: sold before version 0.3.';

-- How a user's purchases of a drop are counted for limit_per_user.
-- squawk-ignore require-concurrent-index-creation
create index purchases_of_user_idx on inventory.purchases (drop_id, user_id) where status in ('pending', 'paid');
comment on index inventory.purchases_of_user_idx is 'The units that a user has bought on a drop, for its limit.';

-- A transaction that does not balance is refused at its commit: what it adds to the total is what it adds to the available, held
-- and sold units. The triggers that note events note these numbers, too.
alter table inventory.changes
  add column variant_ids uuid[] not null default '{}',
  add column added_total bigint not null default 0,
  add column added_available bigint not null default 0,
  add column added_held bigint not null default 0,
  add column added_sold bigint not null default 0;

create function inventory.note_variant() returns trigger language plpgsql as 'begin return null; end';
create function inventory.note_earlier_end() returns trigger language plpgsql as 'begin return null; end';
create trigger variants_note after insert or delete on inventory.variants
  for each row execute function inventory.note_variant();
create trigger variants_update_note after update on inventory.variants
  for each row when (
    (old.name, old.price, old.total_stock, old.available_stock, old.position)
      is distinct from (new.name, new.price, new.total_stock, new.available_stock, new.position)
  ) execute function inventory.note_variant();
create trigger reservations_insert_note after insert on inventory.reservations
  referencing new table as new_rows
  for each statement execute function inventory.note_reservations();
create trigger reservations_delete_note after delete on inventory.reservations
  referencing old table as old_rows
  for each statement execute function inventory.note_reservations();
create trigger purchases_delete_note after delete on inventory.purchases
  referencing old table as old_rows
  for each statement execute function inventory.note_purchases();
-- Only a change by hand lets a hold end earlier, or makes a hold of what had ended.
create trigger reservations_earlier_end after insert or update of status, expires_at on inventory.reservations
  for each row when (new.status = 'ACTIVE' and new.expires_at <= now()) execute function inventory.note_earlier_end();

-- New row types, because functions of 0.2 build rows of the old ones: until the function files are applied, and whenever an old
-- process puts its functions back. The next release drops the old types.
create type api.variant_row as (
  id uuid,
  name text,
  price numeric,
  total_stock integer,
  available_stock integer
);
comment on type api.variant_row is 'A size or tier of a drop. price is what a unit costs, the drop''s if the variant has none.';

create type api.drop_row as (
  id uuid,
  name text,
  price numeric,
  currency text,
  total_stock integer,
  available_stock integer,
  variants api.variant_row[],
  starts_at timestamptz,
  ends_at timestamptz,
  status text,
  paused_at timestamptz,
  limit_per_user integer,
  hold_seconds integer,
  rehold_after_seconds integer,
  extension_seconds integer,
  revision integer,
  created_by uuid,
  "createdAt" timestamptz,
  "updatedAt" timestamptz
);

create type api.reservation_row as (
  id uuid,
  drop_id uuid,
  variant_id uuid,
  user_id uuid,
  basket_id uuid,
  qty integer,
  unit_price numeric,
  currency text,
  amount numeric,
  status text,
  expires_at timestamptz,
  extended_at timestamptz,
  "createdAt" timestamptz,
  "updatedAt" timestamptz
);

create type api.purchase_row as (
  id uuid,
  drop_id uuid,
  variant_id uuid,
  reservation_id uuid,
  user_id uuid,
  qty integer,
  unit_price numeric,
  currency text,
  amount numeric,
  status text,
  refunded_amount numeric,
  refunded_at timestamptz,
  "createdAt" timestamptz,
  "updatedAt" timestamptz
);

comment on type api.drop is 'Unused since 0.3, see api.drop_row. The next release drops it.';
comment on type api.reservation is 'Unused since 0.3, see api.reservation_row. The next release drops it.';
comment on type api.purchase is 'Unused since 0.3, see api.purchase_row. The next release drops it.';

alter type api.reserve_request add attribute variant_id uuid;
alter type api.reserve_request add attribute qty integer;
alter type api.purchase_request add attribute reservation_id uuid;
comment on type api.reserve_request is
'One request of api.reserve_batch: hold qty units (null: 1) of drop_id, of its variant_id if it has variants, for user_id.';
comment on type api.purchase_request is
'One request of api.purchase_batch: sell user_id what is held on drop_id as reservation_id (null: the one hold there is).';

-- migrate:down

-- What only this version knows is lost: variants, limits, and the prices of sales. A hold becomes one of a single unit, and its other
-- units go back to stock. It is refused by the index reservations_active_key while a user holds two variants of a drop.

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

-- The trigger is off, because what it notes would be pending when its table is altered.
alter table inventory.drops disable trigger drops_update_note;
update inventory.drops d
set available_stock = d.available_stock + held.units
from (
  select r.drop_id, sum(r.qty - 1) as units from inventory.reservations r where r.status = 'ACTIVE' and r.qty > 1 group by r.drop_id
) held
where d.id = held.drop_id;
alter table inventory.drops enable trigger drops_update_note;

-- The functions that take or return these types go with them.
-- squawk-ignore ban-drop-type
drop type api.variant_row, api.drop_row, api.reservation_row, api.purchase_row cascade;
-- squawk-ignore ban-drop-column
alter type api.reserve_request drop attribute variant_id cascade;
-- squawk-ignore ban-drop-column
alter type api.reserve_request drop attribute qty cascade;
-- squawk-ignore ban-drop-column
alter type api.purchase_request drop attribute reservation_id cascade;

drop trigger drops_delete_keep on inventory.drops;
-- squawk-ignore ban-drop-function
drop function inventory.keep_drop_with_holds();
-- squawk-ignore adding-foreign-key-constraint, constraint-missing-not-valid
alter table inventory.reservations add constraint reservations_drop_id_fkey
  foreign key (drop_id) references inventory.drops (id);
-- squawk-ignore adding-foreign-key-constraint, constraint-missing-not-valid
alter table inventory.purchases add constraint purchases_user_id_fkey foreign key (user_id) references inventory.users (id);
drop trigger reservations_earlier_end on inventory.reservations;
drop trigger reservations_insert_note on inventory.reservations;
drop trigger reservations_delete_note on inventory.reservations;
drop trigger purchases_delete_note on inventory.purchases;
drop trigger variants_update_note on inventory.variants;
drop trigger variants_note on inventory.variants;
-- squawk-ignore ban-drop-function
drop function inventory.note_variant(), inventory.note_earlier_end();
alter table inventory.changes
  -- squawk-ignore ban-drop-column
  drop column variant_ids, drop column added_total, drop column added_available, drop column added_held, drop column added_sold;

-- squawk-ignore require-concurrent-index-deletion
drop index inventory.purchases_of_user_idx, inventory.reservations_basket_idx, inventory.reservations_lapsed_idx,
  inventory.reservations_active_key, inventory.reservations_due_idx, inventory.reservations_user_idx;
alter table inventory.purchases
  -- squawk-ignore ban-drop-column
  drop column variant_id, drop column unit_price, drop column amount, drop column currency, drop column refunded_amount,
  -- squawk-ignore ban-drop-column
  drop column refunded_at;
alter table inventory.reservations
  -- squawk-ignore ban-drop-column
  drop column variant_id, drop column qty, drop column unit_price, drop column currency, drop column basket_id,
  -- squawk-ignore ban-drop-column
  drop column extended_at;
-- squawk-ignore ban-drop-table
drop table inventory.variants cascade; -- and the functions that take its rows
alter table inventory.drops
  -- squawk-ignore ban-drop-column
  drop column currency, drop column limit_per_user, drop column hold_seconds, drop column rehold_after_seconds,
  -- squawk-ignore ban-drop-column
  drop column extension_seconds, drop column paused_at, drop column nothing_due_before,
  -- squawk-ignore ban-drop-constraint
  drop constraint drops_price_range_check;
-- squawk-ignore changing-column-type
alter table inventory.drops alter column price type numeric(12, 2);
-- squawk-ignore require-concurrent-index-creation
create index reservations_due_idx on inventory.reservations (expires_at, drop_id) where status = 'ACTIVE' and expires_at is not null;
-- squawk-ignore require-concurrent-index-creation
create index reservations_user_idx on inventory.reservations (user_id) where status = 'ACTIVE' and expires_at is not null;
comment on index inventory.reservations_due_idx is 'Due holds, of all drops (for the sweep) or of one drop (for its reserves).';
-- squawk-ignore require-concurrent-index-creation
create unique index reservations_active_key on inventory.reservations (drop_id, user_id) where status = 'ACTIVE';
comment on index inventory.reservations_active_key is 'A user has at most one ACTIVE reservation of a drop.';
comment on table inventory.reservations is 'A unit held for a user until expires_at.';
comment on type api.drop is null;
comment on type api.reservation is null;
comment on type api.purchase is null;
comment on type api.reserve_request is
'One request of api.reserve_batch: hold a unit of drop_id for user_id. Without a key it is null.';
comment on type api.purchase_request is
'One request of api.purchase_batch: sell user_id the unit held on drop_id. Without a key it is null.';
-- Every function file is applied again, because most of them use what has changed.
delete from inventory.function_files;
