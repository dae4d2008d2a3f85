-- migrate:up

-- The rules for single columns of drops become those of domains. PostgreSQL parses every check of a table anew for each statement
-- that writes to it, which was a fifteenth of a call that reserves one unit. It keeps the check of a domain, and applies it only
-- when a statement gives the column a value. The trigger that notes what a seller changes names its columns, because PostgreSQL
-- would parse a WHEN anew as well.
--
-- The table has a row for each drop, so it is soon rewritten, and soon checked when a rule changes.
-- squawk-ignore-file ban-create-domain-with-constraint, changing-column-type, constraint-missing-not-valid, ban-drop-constraint
-- squawk-ignore-file ban-drop-domain

set local lock_timeout = '5s';
set local statement_timeout = '60s';

create domain inventory.drop_name as text
  constraint drops_name_check check (char_length(value) <= 200 and value ~ '\S' and value !~ '[\u0001-\u001f\u007f-\u009f]');
comment on constraint drops_name_check on domain inventory.drop_name is
'name: must be 1 to 200 characters, not all blank, without control characters';
create domain inventory.drop_price as numeric
  constraint drops_price_check check (value >= 0)
  constraint drops_price_range_check check (value < 10000000000);
comment on constraint drops_price_check on domain inventory.drop_price is
'price: must be 0 or more';
comment on constraint drops_price_range_check on domain inventory.drop_price is
'price: must be less than 10000000000';
create domain inventory.drop_currency as text
  constraint drops_currency_check check (value ~ '^[A-Z]{3}$');
comment on constraint drops_currency_check on domain inventory.drop_currency is
'currency: must be an ISO 4217 code, such as USD';
create domain inventory.drop_total_stock as integer
  constraint drops_total_stock_check check (value > 0);
comment on constraint drops_total_stock_check on domain inventory.drop_total_stock is
'total_stock: must be 1 or more';
create domain inventory.drop_starts_at as timestamptz
  constraint drops_starts_at_finite_check check (isfinite(value));
comment on constraint drops_starts_at_finite_check on domain inventory.drop_starts_at is
'starts_at: must be a time, not infinity';
create domain inventory.drop_ends_at as timestamptz
  constraint drops_ends_at_finite_check check (isfinite(value));
comment on constraint drops_ends_at_finite_check on domain inventory.drop_ends_at is
'ends_at: must be a time, not infinity';
create domain inventory.drop_status as text
  constraint drops_status_check check (value in ('draft', 'scheduled', 'live', 'ended', 'cancelled'));
comment on constraint drops_status_check on domain inventory.drop_status is
'status: must be draft, scheduled, live, ended or cancelled';
create domain inventory.drop_limit_per_user as integer
  constraint drops_limit_per_user_check check (value > 0);
comment on constraint drops_limit_per_user_check on domain inventory.drop_limit_per_user is
'limit_per_user: must be 1 or more';
create domain inventory.drop_hold_seconds as integer
  constraint drops_hold_seconds_check check (value between 1 and 86400);
comment on constraint drops_hold_seconds_check on domain inventory.drop_hold_seconds is
'hold_seconds: must be between 1 and 86400';
create domain inventory.drop_rehold_after_seconds as integer
  constraint drops_rehold_after_seconds_check check (value between 0 and 86400);
comment on constraint drops_rehold_after_seconds_check on domain inventory.drop_rehold_after_seconds is
'rehold_after_seconds: must be between 0 and 86400';
create domain inventory.drop_extension_seconds as integer
  constraint drops_extension_seconds_check check (value between 1 and 86400);
comment on constraint drops_extension_seconds_check on domain inventory.drop_extension_seconds is
'extension_seconds: must be between 1 and 86400';

drop trigger drops_raise_revision on inventory.drops;
drop trigger drops_update_note on inventory.drops;
alter table inventory.drops
  drop constraint drops_name_check,
  drop constraint drops_price_check,
  drop constraint drops_price_range_check,
  drop constraint drops_currency_check,
  drop constraint drops_total_stock_check,
  drop constraint drops_starts_at_finite_check,
  drop constraint drops_ends_at_finite_check,
  drop constraint drops_status_check,
  drop constraint drops_limit_per_user_check,
  drop constraint drops_hold_seconds_check,
  drop constraint drops_rehold_after_seconds_check,
  drop constraint drops_extension_seconds_check,
  alter column name type inventory.drop_name,
  alter column price type inventory.drop_price,
  alter column currency type inventory.drop_currency,
  alter column total_stock type inventory.drop_total_stock,
  alter column starts_at type inventory.drop_starts_at,
  alter column ends_at type inventory.drop_ends_at,
  alter column status type inventory.drop_status,
  alter column limit_per_user type inventory.drop_limit_per_user,
  alter column hold_seconds type inventory.drop_hold_seconds,
  alter column rehold_after_seconds type inventory.drop_rehold_after_seconds,
  alter column extension_seconds type inventory.drop_extension_seconds;
create trigger drops_raise_revision
  before update of
    name, price, total_stock, starts_at, ends_at, status, paused_at, limit_per_user, hold_seconds, rehold_after_seconds,
    extension_seconds
  on inventory.drops
  for each row execute function inventory.raise_revision();
create trigger drops_update_note
  after update of
    id, name, price, currency, created_by, total_stock, starts_at, ends_at, status, paused_at, limit_per_user, hold_seconds,
    rehold_after_seconds, extension_seconds
  on inventory.drops
  for each row execute function inventory.note_drop();

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

drop trigger drops_raise_revision on inventory.drops;
drop trigger drops_update_note on inventory.drops;
alter table inventory.drops
  alter column name type text,
  alter column price type numeric,
  alter column currency type text,
  alter column total_stock type integer,
  alter column starts_at type timestamptz,
  alter column ends_at type timestamptz,
  alter column status type text,
  alter column limit_per_user type integer,
  alter column hold_seconds type integer,
  alter column rehold_after_seconds type integer,
  alter column extension_seconds type integer,
  add constraint drops_name_check check (char_length(name) <= 200 and name ~ '\S' and name !~ '[\u0001-\u001f\u007f-\u009f]'),
  add constraint drops_price_check check (price >= 0),
  add constraint drops_price_range_check check (price < 10000000000),
  add constraint drops_currency_check check (currency ~ '^[A-Z]{3}$'),
  add constraint drops_total_stock_check check (total_stock > 0),
  add constraint drops_starts_at_finite_check check (isfinite(starts_at)),
  add constraint drops_ends_at_finite_check check (isfinite(ends_at)),
  add constraint drops_status_check check (status in ('draft', 'scheduled', 'live', 'ended', 'cancelled')),
  add constraint drops_limit_per_user_check check (limit_per_user > 0),
  add constraint drops_hold_seconds_check check (hold_seconds between 1 and 86400),
  add constraint drops_rehold_after_seconds_check check (rehold_after_seconds between 0 and 86400),
  add constraint drops_extension_seconds_check check (extension_seconds between 1 and 86400);
comment on constraint drops_name_check on inventory.drops is
'name: must be 1 to 200 characters, not all blank, without control characters';
comment on constraint drops_price_check on inventory.drops is
'price: must be 0 or more';
comment on constraint drops_price_range_check on inventory.drops is
'price: must be less than 10000000000';
comment on constraint drops_currency_check on inventory.drops is
'currency: must be an ISO 4217 code, such as USD';
comment on constraint drops_total_stock_check on inventory.drops is
'total_stock: must be 1 or more';
comment on constraint drops_starts_at_finite_check on inventory.drops is
'starts_at: must be a time, not infinity';
comment on constraint drops_ends_at_finite_check on inventory.drops is
'ends_at: must be a time, not infinity';
comment on constraint drops_status_check on inventory.drops is
'status: must be draft, scheduled, live, ended or cancelled';
comment on constraint drops_limit_per_user_check on inventory.drops is
'limit_per_user: must be 1 or more';
comment on constraint drops_hold_seconds_check on inventory.drops is
'hold_seconds: must be between 1 and 86400';
comment on constraint drops_rehold_after_seconds_check on inventory.drops is
'rehold_after_seconds: must be between 0 and 86400';
comment on constraint drops_extension_seconds_check on inventory.drops is
'extension_seconds: must be between 1 and 86400';
drop domain inventory.drop_name;
drop domain inventory.drop_price;
drop domain inventory.drop_currency;
drop domain inventory.drop_total_stock;
drop domain inventory.drop_starts_at;
drop domain inventory.drop_ends_at;
drop domain inventory.drop_status;
drop domain inventory.drop_limit_per_user;
drop domain inventory.drop_hold_seconds;
drop domain inventory.drop_rehold_after_seconds;
drop domain inventory.drop_extension_seconds;
create trigger drops_raise_revision
  before update of
    name, price, total_stock, starts_at, ends_at, status, paused_at, limit_per_user, hold_seconds, rehold_after_seconds,
    extension_seconds
  on inventory.drops
  for each row execute function inventory.raise_revision();
create trigger drops_update_note
  after update on inventory.drops
  for each row
  when (
    (
      old.id, old.name, old.price, old.currency, old.created_by, old.total_stock, old.starts_at, old.ends_at, old.status,
      old.paused_at, old.limit_per_user, old.hold_seconds, old.rehold_after_seconds, old.extension_seconds
    ) is distinct from (
      new.id, new.name, new.price, new.currency, new.created_by, new.total_stock, new.starts_at, new.ends_at, new.status,
      new.paused_at, new.limit_per_user, new.hold_seconds, new.rehold_after_seconds, new.extension_seconds
    )
  )
  execute function inventory.note_drop();
