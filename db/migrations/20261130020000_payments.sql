-- migrate:up

-- Purchases that are paid at somebody else's system. With a provider a purchase is pending until the provider says that it was
-- paid. Without one (payment_provider 'none') everything stays as it was.
-- squawk-ignore-file require-concurrent-index-creation, constraint-missing-not-valid, prefer-robust-stmts

set local lock_timeout = '5s';
set local statement_timeout = '60s';

alter table inventory.settings
  add column payment_provider text not null default 'none',
  add column payment_ttl_seconds integer not null default 900;
alter table inventory.settings
  add constraint settings_payment_provider_check check (payment_provider in ('none', 'stripe', 'webhook'));
alter table inventory.settings
  add constraint settings_payment_ttl_seconds_check check (payment_ttl_seconds between 1 and 604800);
comment on column inventory.settings.payment_provider is 'Who takes the money for purchases: none (they are paid at once), stripe or webhook.';
comment on column inventory.settings.payment_ttl_seconds is 'How long a payment may take at least. It may take as long as the hold would have lasted, too.';
comment on constraint settings_payment_provider_check on inventory.settings is 'p_provider: must be none, stripe or webhook';
comment on constraint settings_payment_ttl_seconds_check on inventory.settings is 'p_ttl_seconds: must be between 1 and 604800';

alter table inventory.purchases
  add column payment_id uuid,
  add column refunded_qty integer not null default 0,
  add column payment_expires_at timestamptz;
update inventory.purchases p set refunded_qty = p.qty where p.status = 'refunded';
alter table inventory.purchases add constraint purchases_refunded_qty_check check (refunded_qty between 0 and qty);
comment on table inventory.purchases is
'A consumed reservation. Stock was taken when the unit was reserved. Those of qty - refunded_qty units that are pending or paid are sold.';
comment on column inventory.purchases.payment_id is 'Null: it was paid without a provider, or it is free.';
comment on column inventory.purchases.refunded_qty is 'How many of its units were refunded and given back.';
comment on column inventory.purchases.payment_expires_at is 'A pending purchase is due then: its units go back to stock.';
alter type api.purchase_row add attribute refunded_qty integer;
alter type api.purchase_row add attribute payment_id uuid;

-- As with reservations_due_idx, the conditions hide the first index from queries that do not compare these columns.
create index purchases_due_idx on inventory.purchases (drop_id, payment_expires_at)
  where status = 'pending' and payment_expires_at is not null and drop_id is not null;
comment on index inventory.purchases_due_idx is 'Pending purchases of a drop by the end of their payment.';
create index purchases_payment_idx on inventory.purchases (payment_id, id) where payment_id is not null;
comment on index inventory.purchases_payment_idx is 'The purchases of a payment.';
create index purchases_refunded_idx on inventory.purchases (drop_id, refunded_at) where refunded_qty > 0;
comment on index inventory.purchases_refunded_idx is 'Purchases of a drop of which units were refunded, for charts.';

create index purchases_of_payments_idx on inventory.purchases (drop_id, created_at desc, payment_id desc)
  where payment_id is not null;
comment on index inventory.purchases_of_payments_idx is 'The payments of a drop, for its seller: they are as old as their purchases.';

-- A payment has no drop of its own if it is that of a basket; drop_id is that of its first purchase.
create table inventory.payments (
  id uuid primary key default inventory.uuid_v7(),
  drop_id uuid not null,
  basket_id uuid,
  user_id uuid not null,
  amount numeric not null,
  currency text not null,
  status text not null default 'pending',
  refunded_amount numeric not null default 0,
  provider text not null,
  provider_reference text,
  client_secret text,
  url text,
  expires_at timestamptz not null,
  paid_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint payments_provider_reference_key unique (provider, provider_reference),
  constraint payments_amount_check check (amount > 0),
  constraint payments_refunded_amount_check check (refunded_amount between 0 and amount),
  constraint payments_status_check check (status in ('pending', 'paid', 'failed', 'cancelled', 'refunded'))
);
comment on table inventory.payments is 'What a provider is to take from a buyer for one purchase, or for those of a basket.';
comment on column inventory.payments.drop_id is 'The drop of its first purchase. That of a basket may be for several drops.';
comment on column inventory.payments.refunded_amount is 'What was refunded in all, here or at the provider. It includes refunds that the provider is yet to make.';
comment on column inventory.payments.provider_reference is 'The id of the payment at the provider, once it is known.';
comment on column inventory.payments.client_secret is 'With it the buyer''s page pays at the provider.';
comment on column inventory.payments.url is 'Where the buyer pays.';
comment on column inventory.payments.expires_at is 'A payment that is not paid by then is cancelled, and its units go back to stock.';
create index payments_created_at_idx on inventory.payments (created_at desc, id desc);
comment on index inventory.payments_created_at_idx is 'All payments, for the seller.';
create index payments_unsettled_idx on inventory.payments (id)
  where (status <> 'paid' or refunded_amount > 0) and updated_at is not null;
comment on index inventory.payments_unsettled_idx is 'Payments that reconciliation looks at.';

-- Every event of a provider, once. It is unique by the event's id, so it counts once, however often it comes.
create table inventory.payment_events (
  id bigint generated always as identity primary key,
  provider text not null,
  event_id text not null,
  payment_id uuid,
  status text not null,
  amount numeric,
  currency text,
  refunded_amount numeric,
  body text not null,
  outcome text not null,
  problem text,
  received_at timestamptz not null default now(),
  constraint payment_events_event_id_key unique (provider, event_id),
  constraint payment_events_outcome_check check (outcome in ('applied', 'unchanged', 'flagged')),
  constraint payment_events_problem_check check (
    problem in ('unknown_payment', 'wrong_amount', 'wrong_currency', 'wrong_mode', 'refunded_in_part', 'too_late'))
);
comment on table inventory.payment_events is 'What providers told about payments. Rows are only added.';
comment on column inventory.payment_events.payment_id is 'Null: no payment was found.';
comment on column inventory.payment_events.status is 'What the payment has become, as the provider tells it.';
comment on column inventory.payment_events.body is 'The request as it came.';
comment on column inventory.payment_events.outcome is
'applied: the payment was changed; unchanged: it was so already, or may not become so any more; flagged: the seller has to look at it.';
create index payment_events_payment_idx on inventory.payment_events (payment_id, id) where payment_id is not null;
comment on index inventory.payment_events_payment_idx is 'The events of a payment.';
create index payment_events_flagged_idx on inventory.payment_events (id desc) where outcome = 'flagged';
comment on index inventory.payment_events_flagged_idx is 'What the seller has to look at.';
create trigger payment_events_keep before update or delete or truncate on inventory.payment_events
  for each statement execute function inventory.refuse_rewriting();

-- A transactional outbox: what a provider has to be told is written by the transaction that decides it, and done later.
create table inventory.provider_calls (
  id uuid primary key default inventory.uuid_v7(),
  drop_id uuid not null,
  payment_id uuid not null,
  action text not null,
  amount numeric not null,
  attempts integer not null default 0,
  next_attempt_at timestamptz not null default now(),
  done_at timestamptz,
  gave_up_at timestamptz,
  last_error text,
  created_at timestamptz not null default now(),
  constraint provider_calls_action_check check (action in ('create', 'cancel', 'refund'))
);
comment on table inventory.provider_calls is
'What a provider has to be told. The id of the call is its idempotency key there, so that a call that is repeated counts once.';
comment on column inventory.provider_calls.next_attempt_at is 'When it is tried again. Until then a worker has leased it, or it waits after an error.';
comment on column inventory.provider_calls.gave_up_at is 'When the last attempt failed; null: it is done, or tried again. The seller may retry it.';
create index provider_calls_next_idx on inventory.provider_calls (next_attempt_at)
  where done_at is null and gave_up_at is null;
comment on index inventory.provider_calls_next_idx is 'Calls that are open, by the time of their next attempt.';
create index provider_calls_payment_idx on inventory.provider_calls (payment_id, id);
comment on index inventory.provider_calls_payment_idx is 'The calls of a payment, in their order.';
create index provider_calls_drop_idx on inventory.provider_calls (drop_id, id);
comment on index inventory.provider_calls_drop_idx is 'The calls of a drop, for its seller.';

alter table inventory.changes add column updated_payment_ids uuid[] not null default '{}';

create type api.payment_row as (
  id uuid,
  drop_id uuid,
  basket_id uuid,
  user_id uuid,
  amount numeric,
  currency text,
  status text,
  refunded_amount numeric,
  provider text,
  provider_reference text,
  client_secret text,
  url text,
  expires_at timestamptz,
  paid_at timestamptz,
  "createdAt" timestamptz,
  "updatedAt" timestamptz
);
comment on type api.payment_row is
'A payment by the clock: one that was not paid in time is cancelled. client_secret and url are null once it has ended.';

create type api.payment_event as (
  provider text,
  event_id text,
  payment_id uuid,
  provider_reference text,
  status text,
  amount numeric,
  currency text,
  refunded_amount numeric,
  body text,
  problem text
);
comment on type api.payment_event is
'What a provider told about a payment: that it was paid, failed, cancelled or refunded. refunded_amount is what was given back so far in all.';

create type api.provider_call as (
  id uuid,
  payment_id uuid,
  drop_id uuid,
  action text,
  amount numeric,
  attempts integer,
  payment api.payment_row
);
comment on type api.provider_call is 'A call that a worker has leased: create, cancel or refund the payment at its provider.';

create type api.provider_call_row as (
  id uuid,
  payment_id uuid,
  drop_id uuid,
  action text,
  amount numeric,
  currency text,
  attempts integer,
  status text,
  next_attempt_at timestamptz,
  done_at timestamptz,
  gave_up_at timestamptz,
  last_error text,
  "createdAt" timestamptz
);
comment on type api.provider_call_row is 'A call to a provider as its seller sees it. status is open, done or given_up.';

create function inventory.note_payments() returns trigger language plpgsql as 'begin return null; end';
create trigger payments_insert_note after insert on inventory.payments
  referencing new table as new_rows
  for each statement execute function inventory.note_payments();
create trigger payments_update_note after update on inventory.payments
  referencing old table as old_rows new table as new_rows
  for each statement execute function inventory.note_payments();

create function inventory.note_earlier_payment_end() returns trigger language plpgsql as 'begin return null; end';
create trigger purchases_earlier_end after update of payment_expires_at on inventory.purchases
  for each row when (new.status = 'pending' and new.payment_expires_at <= now())
  execute function inventory.note_earlier_payment_end();

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- Without payments nothing would end a pending purchase, so it ends here. Its units go back to stock.
with ended as (
  update inventory.purchases p set status = 'cancelled', updated_at = now() where p.status = 'pending'
  returning p.drop_id, p.variant_id, p.qty
),
of_variants as (
  update inventory.variants v
  set available_stock = v.available_stock + back.units
  from (select e.drop_id, e.variant_id, sum(e.qty) as units from ended e where e.variant_id is not null group by 1, 2) back
  where v.drop_id = back.drop_id and v.id = back.variant_id
)
update inventory.drops d
set available_stock = d.available_stock + back.units
from (select e.drop_id, sum(e.qty) as units from ended e group by 1) back
where d.id = back.drop_id;
-- Units that were refunded one by one leave their purchase and its reservation.
update inventory.reservations r
set qty = p.qty - p.refunded_qty
from inventory.purchases p
where p.status = 'paid' and p.refunded_qty > 0 and r.id = p.reservation_id and r.drop_id = p.drop_id;
update inventory.purchases p
set qty = p.qty - p.refunded_qty, amount = (p.qty - p.refunded_qty) * p.unit_price, refunded_qty = 0, refunded_amount = null,
  refunded_at = null
where p.status = 'paid' and p.refunded_qty > 0;
-- The tables cannot be altered before their deferred triggers have run.
set constraints all immediate;

drop trigger purchases_earlier_end on inventory.purchases;
-- The functions that take rows of these tables go with them.
-- squawk-ignore ban-drop-table
drop table inventory.payments, inventory.payment_events, inventory.provider_calls cascade;
-- squawk-ignore ban-drop-function
drop function inventory.note_payments(), inventory.note_earlier_payment_end();
-- squawk-ignore ban-drop-column
alter table inventory.changes drop column updated_payment_ids;
alter table inventory.purchases
  -- squawk-ignore ban-drop-column
  drop column payment_id,
  -- squawk-ignore ban-drop-column
  drop column refunded_qty,
  -- squawk-ignore ban-drop-column
  drop column payment_expires_at;
alter table inventory.settings
  -- squawk-ignore ban-drop-column
  drop column payment_provider,
  -- squawk-ignore ban-drop-column
  drop column payment_ttl_seconds;
-- squawk-ignore ban-drop-column
alter type api.purchase_row drop attribute refunded_qty;
-- squawk-ignore ban-drop-column
alter type api.purchase_row drop attribute payment_id;
-- The functions that take or return these types go with them.
-- squawk-ignore ban-drop-type
drop type api.payment_row, api.payment_event, api.provider_call, api.provider_call_row cascade;
-- The function files that use what is gone are applied again when this migration is, or by the version before.
delete from inventory.function_files;
