-- migrate:up

-- How many units are to be paid is counted in purchases_due_idx. purchases_unpaid_idx has these purchases, too, and in their midst
-- all that were paid since and are not vacuumed yet. The condition hides it from queries that do not compare created_at, as with
-- reservations_past_idx.

-- squawk-ignore-file require-concurrent-index-creation, require-concurrent-index-deletion, prefer-robust-stmts

set local lock_timeout = '5s';
set local statement_timeout = '60s';

drop index inventory.purchases_unpaid_idx;
create index purchases_unpaid_idx on inventory.purchases (drop_id, status, created_at desc)
  where status <> 'paid' and created_at is not null;
comment on index inventory.purchases_unpaid_idx is 'Purchases of a drop that are not paid, or not any more, for its seller.';

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

drop index inventory.purchases_unpaid_idx;
create index purchases_unpaid_idx on inventory.purchases (drop_id, status, created_at desc) where status <> 'paid';
comment on index inventory.purchases_unpaid_idx is 'Purchases of a drop that are not paid, or not any more, for its seller.';
