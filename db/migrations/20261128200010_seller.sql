-- migrate:up

-- What a seller needs to run a sale: lists of who holds and who bought, in pages, and a history of what was done to a drop.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- The lists of a drop, newest first. They come from several indexes, because a reserve should not write one more: ACTIVE holds are
-- few, and reservations_due_idx has them; purchases_latest_idx has what is paid. The comparison of created_at hides the first index
-- from the hot queries, which compare none; see reservations_due_idx.
-- The indexes are not made concurrently, because dbmate runs a migration in a transaction. Sales wait meanwhile: about a second for
-- a million of them.
-- squawk-ignore require-concurrent-index-creation
create index reservations_past_idx on inventory.reservations (drop_id, status, created_at desc)
  where status <> 'ACTIVE' and created_at is not null;
comment on index inventory.reservations_past_idx is 'Holds of a drop that ran out, were cancelled or were bought, for its seller.';
-- squawk-ignore require-concurrent-index-creation
create index purchases_unpaid_idx on inventory.purchases (drop_id, status, created_at desc) where status <> 'paid';
comment on index inventory.purchases_unpaid_idx is 'Purchases of a drop that are not paid, or not any more, for its seller.';

-- What sellers did, as rows that stay. The rows of a drop are written under the lock of the drop.
create table inventory.drop_changes (
  drop_id uuid not null,
  id bigint generated always as identity,
  action text not null,
  changed_by uuid,
  db_user text not null,
  details jsonb not null,
  created_at timestamptz not null default now(),
  primary key (drop_id, id),
  constraint drop_changes_action_check check (action in ('created', 'updated', 'cancelled', 'refunded'))
);
comment on table inventory.drop_changes is 'The history of drops: who did what when. Rows are only added.';
comment on column inventory.drop_changes.changed_by is 'The user; null: a person or program in the database, see db_user.';
comment on column inventory.drop_changes.db_user is 'The role that the session logged in as, or has set.';
comment on column inventory.drop_changes.details is
'created: the fields; updated and cancelled: the fields that changed, each with "from" and "to"; refunded: what was refunded.';
comment on constraint drop_changes_action_check on inventory.drop_changes is
'action: must be created, updated, cancelled or refunded';
create function inventory.refuse_rewriting() returns trigger language plpgsql as 'begin return null; end';
create trigger drop_changes_keep before update or delete or truncate on inventory.drop_changes
  for each statement execute function inventory.refuse_rewriting();

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- squawk-ignore require-concurrent-index-deletion
drop index inventory.reservations_past_idx;
-- squawk-ignore require-concurrent-index-deletion
drop index inventory.purchases_unpaid_idx;
-- squawk-ignore ban-drop-table
drop table inventory.drop_changes;
-- squawk-ignore ban-drop-function
drop function inventory.refuse_rewriting();
delete from inventory.function_files where path = 'inventory/refuse_rewriting.sql';
