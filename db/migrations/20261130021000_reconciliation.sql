-- migrate:up

-- squawk-ignore-file require-concurrent-index-creation, prefer-robust-stmts
-- Payments are compared with their providers once a day. Every process of the service asks for it, and one of them does it.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

alter table inventory.settings add column reconciled_at timestamptz;
comment on column inventory.settings.reconciled_at is 'When the latest daily comparison with the payment providers began; null: never.';

create index provider_calls_given_up_idx on inventory.provider_calls (id) where gave_up_at is not null;
comment on index inventory.provider_calls_given_up_idx is 'Calls that were given up, to be counted.';

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

drop index inventory.provider_calls_given_up_idx;
-- squawk-ignore ban-drop-column
alter table inventory.settings drop column reconciled_at;
