-- migrate:up

-- Outbound webhooks: what happens to drops, holds and purchases is told to the seller's own systems over HTTP.
--
-- A transaction writes messages (inventory.write_webhooks) together with its events, so that a crash loses none. Their ids are
-- drawn under the lock that orders events, so they are in commit order. api.fan_out_webhooks makes a delivery of each message for
-- each endpoint that wants its type. A lane is the queue of the deliveries of one endpoint and one drop: they are sent one after
-- the other, in the order of the messages. A process leases a lane, sends, and tells the results (api.take_webhook_deliveries,
-- api.finish_webhook_deliveries). If it dies, the lease ends and another process sends again.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- The flag that keeps this away from sales that tell nobody: no transaction writes a message of a type that is not in it.
alter table inventory.settings add column if not exists webhook_types text[] not null default '{}';
comment on column inventory.settings.webhook_types is
'The types of messages that active webhook endpoints want. A trigger on the endpoints keeps it.';

-- They are null in nearly all notes, because a null takes no room and no time.
alter table inventory.changes add column if not exists changed_purchase_ids uuid[];
alter table inventory.changes add column if not exists is_cancelled boolean;
comment on column inventory.changes.changed_purchase_ids is 'Purchases whose status or refund changed, for webhooks.';
comment on column inventory.changes.is_cancelled is 'Whether the drop was cancelled, for webhooks.';

create table inventory.webhook_endpoints (
  id uuid primary key default inventory.uuid_v7(),
  url text not null,
  event_types text[] not null,
  is_active boolean not null default true,
  disabled_at timestamptz,
  disabled_reason text,
  failing_since timestamptz,
  secret text not null,
  previous_secret text,
  previous_secret_ends_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint webhook_endpoints_url_check check (
    char_length(url) <= 2000 and url ~ (
      '^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?'
      '([/?]([A-Za-z0-9._~:/?@!$&''()*+,;=-]|%[0-9A-Fa-f]{2})*)?$')
  ),
  constraint webhook_endpoints_event_types_check check (
    cardinality(event_types) > 0 and event_types <@ array[
      'purchase.pending', 'purchase.paid', 'purchase.cancelled', 'purchase.refunded', 'hold.expired', 'drop.created',
      'drop.updated', 'drop.sold_out', 'drop.cancelled', 'payment.flagged'
    ]
  ),
  constraint webhook_endpoints_disabled_reason_check check (disabled_reason in ('failing', 'gone'))
);
comment on table inventory.webhook_endpoints is 'Where the seller''s systems want to be told what happens, and what.';
comment on column inventory.webhook_endpoints.disabled_at is 'When the service gave the endpoint up; null: it did not.';
comment on column inventory.webhook_endpoints.disabled_reason is
'failing: no delivery succeeded for days; gone: the endpoint answered 410.';
comment on column inventory.webhook_endpoints.failing_since is 'The first failure since the last success.';
comment on column inventory.webhook_endpoints.previous_secret is
'The secret before it was rotated. Until previous_secret_ends_at messages are signed with both.';
comment on constraint webhook_endpoints_url_check on inventory.webhook_endpoints is
'url: must be an http or https URL of at most 2000 characters, in ASCII, without a user, a password and a fragment';
comment on constraint webhook_endpoints_event_types_check on inventory.webhook_endpoints is
'event_types: must be one or more of purchase.pending, purchase.paid, purchase.cancelled, purchase.refunded, hold.expired,
drop.created, drop.updated, drop.sold_out, drop.cancelled, payment.flagged';
comment on constraint webhook_endpoints_disabled_reason_check on inventory.webhook_endpoints is
'disabled_reason: must be failing or gone';

create table inventory.webhook_messages (
  drop_id uuid,
  id bigint primary key generated always as identity,
  message_id uuid not null default inventory.uuid_v7(),
  type text not null,
  data json not null,
  created_at timestamptz not null default clock_timestamp()
);
create index webhook_messages_created_at_idx on inventory.webhook_messages (created_at);
comment on index inventory.webhook_messages_created_at_idx is 'The oldest messages, for pruning.';
comment on table inventory.webhook_messages is 'What is told to webhook endpoints, in the order of the commits.';
comment on column inventory.webhook_messages.drop_id is 'Null: a test, or a payment that is not known.';
comment on column inventory.webhook_messages.message_id is 'The header webhook-id, by which a receiver knows a repeated message.';

create table inventory.webhook_position (
  is_only boolean primary key default true constraint webhook_position_is_only_check check (is_only),
  last_message bigint not null default 0
);
comment on table inventory.webhook_position is 'One row: the last message of which deliveries were made.';
comment on constraint webhook_position_is_only_check on inventory.webhook_position is 'is_only: there is one row';
insert into inventory.webhook_position default values;

create table inventory.webhook_lanes (
  endpoint_id uuid not null references inventory.webhook_endpoints (id) on delete cascade,
  lane uuid not null,
  next_attempt_at timestamptz not null default now(),
  lease uuid,
  primary key (endpoint_id, lane)
);
create index webhook_lanes_due_idx on inventory.webhook_lanes (endpoint_id, next_attempt_at);
comment on index inventory.webhook_lanes_due_idx is 'The lanes of an endpoint that are due.';
comment on table inventory.webhook_lanes is
'The queues of deliveries that are not empty. Deliveries of a lane are sent one after the other.';
comment on column inventory.webhook_lanes.lane is 'The drop; of what is about no drop, the endpoint.';
comment on column inventory.webhook_lanes.next_attempt_at is
'When the lane is due. While a process has it, the end of its lease.';
comment on column inventory.webhook_lanes.lease is 'Of the process that has the lane, or had it last.';

-- A message has no foreign key from here, because each delivery would write its message's row. api.prune_webhooks deletes both.
create table inventory.webhook_deliveries (
  endpoint_id uuid not null references inventory.webhook_endpoints (id) on delete cascade,
  lane uuid not null,
  message bigint not null,
  id uuid not null default inventory.uuid_v7(),
  status text not null default 'pending',
  attempts integer not null default 0,
  last_attempt_at timestamptz,
  last_status integer,
  last_error text,
  give_up_at timestamptz not null default now() + interval '1 day',
  created_at timestamptz not null default now(),
  primary key (endpoint_id, message),
  constraint webhook_deliveries_status_check check (status in ('pending', 'delivered', 'given_up'))
);
create unique index webhook_deliveries_id_key on inventory.webhook_deliveries (id);
comment on index inventory.webhook_deliveries_id_key is 'A delivery by its id, for a replay.';
create index webhook_deliveries_pending_idx on inventory.webhook_deliveries (endpoint_id, lane, message) where status = 'pending';
comment on index inventory.webhook_deliveries_pending_idx is 'The next deliveries of a lane.';
comment on table inventory.webhook_deliveries is 'A message for an endpoint, and what became of it.';
comment on column inventory.webhook_deliveries.lane is 'See inventory.webhook_lanes.';
comment on column inventory.webhook_deliveries.message is 'inventory.webhook_messages.id.';
comment on column inventory.webhook_deliveries.last_status is 'The status of the last answer; null: there was none.';
comment on column inventory.webhook_deliveries.give_up_at is 'An attempt that fails after this moment is the last one.';
comment on constraint webhook_deliveries_status_check on inventory.webhook_deliveries is
'status: must be pending, delivered or given_up';

create function inventory.note_webhook_endpoints() returns trigger language plpgsql as 'begin return null; end';
create trigger webhook_endpoints_note after insert or update or delete on inventory.webhook_endpoints
  for each statement execute function inventory.note_webhook_endpoints();
create function inventory.tell_payment_problem() returns trigger language plpgsql as 'begin return null; end';
create constraint trigger payment_events_tell after insert on inventory.payment_events
  deferrable initially deferred
  for each row when (new.outcome = 'flagged') execute function inventory.tell_payment_problem();
delete from inventory.function_files
where path in ('inventory/note_webhook_endpoints.sql', 'inventory/tell_payment_problem.sql');

create type api.webhook_endpoint_row as (
  id uuid,
  url text,
  event_types text[],
  active boolean,
  disabled_at timestamptz,
  disabled_reason text,
  failing_since timestamptz,
  previous_secret_ends_at timestamptz,
  "createdAt" timestamptz,
  "updatedAt" timestamptz
);
comment on type api.webhook_endpoint_row is 'A webhook endpoint, without its secret.';

create type api.webhook_delivery_row as (
  id uuid,
  endpoint_id uuid,
  webhook_id uuid,
  drop_id uuid,
  type text,
  status text,
  attempts integer,
  last_attempt_at timestamptz,
  last_status integer,
  last_error text,
  next_attempt_at timestamptz,
  give_up_at timestamptz,
  "createdAt" timestamptz
);
comment on type api.webhook_delivery_row is 'A message for a webhook endpoint, and what became of it.';

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- squawk-ignore ban-drop-type
drop type api.webhook_delivery_row cascade;
-- squawk-ignore ban-drop-type
drop type api.webhook_endpoint_row cascade;
-- squawk-ignore ban-drop-table
drop table inventory.webhook_deliveries;
-- squawk-ignore ban-drop-table
drop table inventory.webhook_lanes;
-- squawk-ignore ban-drop-table
drop table inventory.webhook_position;
-- squawk-ignore ban-drop-table
drop table inventory.webhook_messages cascade;
-- squawk-ignore ban-drop-table
drop table inventory.webhook_endpoints cascade;
-- squawk-ignore ban-drop-function
drop function inventory.note_webhook_endpoints();
drop trigger payment_events_tell on inventory.payment_events;
-- squawk-ignore ban-drop-function
drop function inventory.tell_payment_problem();
-- squawk-ignore ban-drop-function
drop function if exists
  inventory.write_webhooks(inventory.changes[], inventory.drops[], text[]), inventory.write_drop_webhook(text, inventory.drops);
-- The columns of inventory.changes and inventory.settings stay, because the functions that fill and read them run until those of
-- the version before are applied, also on the way back of the migrations before this one. They stay empty.
update inventory.settings set webhook_types = '{}';
-- The function files that use what is gone are applied again when this migration is, or by the version before.
delete from inventory.function_files;
