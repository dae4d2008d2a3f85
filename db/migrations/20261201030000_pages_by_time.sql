-- migrate:up

-- A page of these lists begins after a time and an id, so that it does not depend on a row that may have gone.

-- squawk-ignore-file require-concurrent-index-creation, require-concurrent-index-deletion, prefer-robust-stmts

set local lock_timeout = '5s';
set local statement_timeout = '60s';

create index payment_events_flagged_at_idx on inventory.payment_events (received_at desc, id desc) where outcome = 'flagged';
comment on index inventory.payment_events_flagged_at_idx is 'What the seller has to look at, the newest first.';
comment on index inventory.payment_events_flagged_idx is 'Finds the events that the seller has to look at by id, because a cursor may be an id alone.';

create index webhook_deliveries_created_at_idx on inventory.webhook_deliveries (endpoint_id, created_at desc, id desc);
comment on index inventory.webhook_deliveries_created_at_idx is 'The deliveries of an endpoint, the newest first.';

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

drop index inventory.webhook_deliveries_created_at_idx;
drop index inventory.payment_events_flagged_at_idx;
comment on index inventory.payment_events_flagged_idx is 'What the seller has to look at.';
