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

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- squawk-ignore require-concurrent-index-deletion
drop index inventory.reservations_past_idx;
-- squawk-ignore require-concurrent-index-deletion
drop index inventory.purchases_unpaid_idx;
