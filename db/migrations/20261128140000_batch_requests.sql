-- migrate:up

-- A batch takes an array of one composite type: a request of any drop is one element, and a new property of a request is one
-- more attribute of its type instead of one more parallel array in every function.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

create type api.reserve_request as (
  drop_id uuid,
  user_id uuid,
  idempotency_key text
);
comment on type api.reserve_request is
'One request of api.reserve_batch: hold a unit of drop_id for user_id. Without a key it is null.';

create type api.purchase_request as (
  drop_id uuid,
  user_id uuid,
  idempotency_key text
);
comment on type api.purchase_request is
'One request of api.purchase_batch: sell user_id the unit held on drop_id. Without a key it is null.';

create type api.cancel_request as (
  reservation_id uuid,
  user_id uuid
);
comment on type api.cancel_request is 'One request of api.cancel_batch: give back the unit that user_id holds as reservation_id.';

create type api.user_request as (
  user_id uuid,
  username text
);
comment on type api.user_request is
'One request of api.ensure_user_batch: make user_id if it is missing, named username (null: the default name).';

-- An event now carries its drop, so api.events_after and api.snapshot return tables of their own. The functions of 0.1 are in
-- force until the function files have been applied, and they return this type, so it cannot go before the next release.
comment on type api.event is 'Unused since 0.2, where functions return the drop of an event, too. The next release drops it.';

-- The comments of 0.1, in plain English. Migrations that databases have run are not edited.
comment on schema inventory is 'Tables, private functions and triggers. Only the owner may use it.';
comment on table inventory.drops is
'Limited offers. The row is the unit of contention: a transaction that changes its stock locks it first.';
comment on index inventory.reservations_active_key is 'A user has at most one ACTIVE reservation of a drop.';
comment on index inventory.reservations_due_idx is 'Due holds, of all drops (for the sweep) or of one drop (for its reserves).';
comment on table inventory.changes is
'Notes of what each open transaction has done to a drop. They become events at its commit, so other transactions see no rows.';
comment on table inventory.events is
'The event log: committed events in the order of their commits, kept for EVENT_RETENTION_SECONDS for readers that missed some.';
comment on column inventory.events.created_at is
'The time of publishing and not now(). It rises with id, so pruning by time removes a beginning of the log.';
comment on index inventory.events_drop_idx is 'The events of one drop, for clients that ask for that drop only.';
comment on type api.outcome is
'The outcome of request number n of a batch: HTTP status; code and message if it was refused; data, a row, if it was carried out.';
comment on function inventory.uuid_v7() is 'A new UUIDv7: built in from PostgreSQL 18 on, emulated before.';

-- migrate:down

comment on schema inventory is 'Tables, private functions and triggers. Nobody but the owner touches it.';
comment on table inventory.drops is 'What is sold. The row is the unit of contention: whoever changes its stock locks it first.';
comment on index inventory.reservations_active_key is 'One ACTIVE reservation a user and drop.';
comment on index inventory.reservations_due_idx is 'What is due, over all drops (the sweep) or in one (a reserve that runs short).';
comment on table inventory.changes is 'What the transactions under way have done to a drop and will announce when they commit; empty to everybody else.';
comment on table inventory.events is 'What was committed, in that order; kept for EVENT_RETENTION_SECONDS so that whoever missed events can read them.';
comment on column inventory.events.created_at is 'The moment of publishing, not now(): it rises with id, so the log is cut off in one place.';
comment on index inventory.events_drop_idx is 'What happened to one drop, for clients that ask for no other.';
comment on type api.outcome is 'What became of request number n of a batch: HTTP status; code and message when refused; data, the row, when served.';
comment on function inventory.uuid_v7() is 'A new UUIDv7: PostgreSQL''s own from 18 on, emulated below.';
comment on type api.event is 'An event as it travels: NOTIFY payload, WebSocket frame, row of api.events_after.';
-- The functions for processes of 0.1 build requests of these types, so they go with them; unless 0.1 has put its own functions of
-- the same names back already, which do without.
do $$
begin
  if exists (select from inventory.function_files where path = 'inventory/reserve_on_drop.sql') then
    drop function if exists
      api.reserve_batch(uuid, uuid[], text[], integer), api.reserve_batches(uuid[], uuid[], text[], integer),
      api.purchase_batch(uuid, uuid[], text[]), api.purchase_batches(uuid[], uuid[], text[]),
      api.cancel_batch(uuid[], uuid[]), api.ensure_user_batch(uuid[], text[]);
  end if;
end
$$;
-- squawk-ignore ban-drop-type
drop type api.reserve_request, api.purchase_request, api.cancel_request, api.user_request cascade; -- and what takes them
-- What was dropped here is applied again if this migration is.
delete from inventory.function_files
where path in (
  'api/reserve_batch.sql', 'api/reserve_batches.sql', 'api/purchase_batch.sql', 'api/purchase_batches.sql',
  'api/cancel_batch.sql', 'api/ensure_user_batch.sql',
  'inventory/reserve_on_drop.sql', 'inventory/prepare_drop.sql', 'inventory/reserve_decisions.sql',
  'inventory/purchase_on_drop.sql', 'inventory/find_holds.sql', 'inventory/purchase_decisions.sql',
  'inventory/cancel_on_drop.sql'
);
