-- migrate:up

-- Retries of requests that are rare: putting a drop up for sale, making a user. A reserve and a purchase keep their key in their
-- own row. And revisions of a drop.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

create table inventory.idempotency_keys (
  user_id uuid,
  key text not null,
  fingerprint bytea not null,
  row_id uuid not null,
  transaction_id xid8 not null default pg_current_xact_id(),
  created_at timestamptz not null default now(),
  constraint idempotency_keys_key unique nulls not distinct (user_id, key)
);
create index idempotency_keys_created_at_idx on inventory.idempotency_keys (created_at);
comment on index inventory.idempotency_keys_created_at_idx is 'The oldest keys, for pruning.';
comment on table inventory.idempotency_keys is 'The Idempotency-Keys of rare requests, each with the row that the first one made. Pruned after a day.';
comment on column inventory.idempotency_keys.user_id is 'Who sent the key; null: a request that names nobody.';
comment on column inventory.idempotency_keys.fingerprint is 'SHA-256 of the operation and the request, so that a key of another request is noticed.';
comment on column inventory.idempotency_keys.row_id is 'What the first request made.';
comment on column inventory.idempotency_keys.transaction_id is 'The transaction of the first request; any other one is a replay.';

-- What a seller changes, so that two sellers do not undo one another's work. A constant default rewrites no row.
alter table inventory.drops add column revision integer not null default 1;
comment on column inventory.drops.revision is 'How often what a seller sets was changed. Sales and the clock do not raise it.';
create function inventory.raise_revision() returns trigger language plpgsql as 'begin return new; end';
create trigger drops_raise_revision
  before update of name, price, total_stock, starts_at, ends_at, status, paused_at, limit_per_user, hold_seconds,
    rehold_after_seconds, extension_seconds
  on inventory.drops
  for each row execute function inventory.raise_revision();

-- Drafts are the seller's: what happens to one is not announced. A drop that goes back to draft, or is deleted by hand, is announced
-- as removed, so the note says whether the drop could be seen before the transaction.
alter table inventory.changes add column was_public boolean;
create trigger drops_delete_note after delete on inventory.drops
  for each row execute function inventory.note_drop();

-- What the service is configured with and the database must know, because it writes the events.
create table inventory.settings (
  is_only boolean primary key default true constraint settings_is_only_check check (is_only),
  purchaser_names text not null default 'full',
  constraint settings_purchaser_names_check check (purchaser_names in ('full', 'initials', 'hidden'))
);
comment on table inventory.settings is 'One row: what the service is configured with and the functions must know.';
comment on column inventory.settings.purchaser_names is 'How purchasers'' names are shown to everybody.';
comment on constraint settings_purchaser_names_check on inventory.settings is 'p_names: must be full, initials or hidden';
insert into inventory.settings default values;

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

drop trigger drops_delete_note on inventory.drops;
alter table inventory.changes drop column was_public;
drop trigger drops_raise_revision on inventory.drops;
-- squawk-ignore ban-drop-function
drop function inventory.raise_revision();
-- squawk-ignore ban-drop-column
alter table inventory.drops drop column revision;
-- squawk-ignore ban-drop-table
drop table inventory.settings;
-- squawk-ignore ban-drop-table
drop table inventory.idempotency_keys;
-- Every function file is applied again, because some of them use what has changed.
delete from inventory.function_files;
