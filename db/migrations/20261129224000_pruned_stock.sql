-- migrate:up

-- A chart of a drop on which little happens would begin with a gap, because its stock is known from the events, and the newest
-- one may be pruned. So the stock that it told stays.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

alter table inventory.pruned_events add column available_stock integer;
alter table inventory.pruned_events add column stock_at timestamptz;
comment on column inventory.pruned_events.available_stock is
'What the newest pruned event about its stock told; null: none was pruned since version 0.3.';
comment on column inventory.pruned_events.stock_at is 'The time of that event.';

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- squawk-ignore ban-drop-column
alter table inventory.pruned_events drop column available_stock;
-- squawk-ignore ban-drop-column
alter table inventory.pruned_events drop column stock_at;
-- The function files that use what is gone are applied again when this migration is, or by the version before.
delete from inventory.function_files;
