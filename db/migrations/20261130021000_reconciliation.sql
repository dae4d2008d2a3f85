-- migrate:up

-- squawk-ignore-file require-concurrent-index-creation, prefer-robust-stmts, constraint-missing-not-valid
-- squawk-ignore-file ban-drop-constraint, require-concurrent-index-deletion
-- Payments are compared with their providers once a day. Every process of the service asks for it, and one of them does it.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

alter table inventory.settings add column reconciled_at timestamptz;
comment on column inventory.settings.reconciled_at is 'When the latest daily comparison with the payment providers began; null: never.';

-- A provider may say later that a refund did not work. That is for the seller to look at.
alter table inventory.payment_events drop constraint payment_events_problem_check;
alter table inventory.payment_events add constraint payment_events_problem_check check (
  problem in (
    'unknown_payment', 'wrong_amount', 'wrong_currency', 'wrong_mode', 'refunded_in_part', 'refund_failed', 'too_late'));

create index provider_calls_given_up_idx on inventory.provider_calls (id) where gave_up_at is not null;
comment on index inventory.provider_calls_given_up_idx is 'Calls that were given up, to be counted.';

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- Events with the newer problem stay, because rows are never changed or deleted here.
alter table inventory.payment_events drop constraint payment_events_problem_check;
alter table inventory.payment_events add constraint payment_events_problem_check check (
  problem in ('unknown_payment', 'wrong_amount', 'wrong_currency', 'wrong_mode', 'refunded_in_part', 'too_late')) not valid;
drop index inventory.provider_calls_given_up_idx;
-- squawk-ignore ban-drop-column
alter table inventory.settings drop column reconciled_at;
