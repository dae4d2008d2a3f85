-- migrate:up

-- Retries of requests that are rare: putting a drop up for sale, making a user. A reserve and a purchase keep their key in their
-- own row.

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

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- squawk-ignore ban-drop-table
drop table inventory.idempotency_keys;
-- Every function file is applied again, because some of them use what has changed.
delete from inventory.function_files;
