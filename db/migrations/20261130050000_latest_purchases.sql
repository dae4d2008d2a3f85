-- migrate:up

-- The latest purchases of a drop were sometimes looked for in purchases_of_user_idx: by reading all purchases of the drop and sorting
-- them, with each batch. That index is as good as purchases_latest_idx in the planner's eyes, and a little smaller. The condition
-- on user_id hides it from queries that do not compare that column, as with reservations_due_idx.

-- squawk-ignore-file require-concurrent-index-creation, require-concurrent-index-deletion, prefer-robust-stmts

set local lock_timeout = '5s';
set local statement_timeout = '60s';

drop index inventory.purchases_of_user_idx;
create index purchases_of_user_idx on inventory.purchases (drop_id, user_id)
  where status in ('pending', 'paid') and user_id is not null;
comment on index inventory.purchases_of_user_idx is 'The units that a user has bought on a drop, for its limit.';

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

drop index inventory.purchases_of_user_idx;
create index purchases_of_user_idx on inventory.purchases (drop_id, user_id) where status in ('pending', 'paid');
comment on index inventory.purchases_of_user_idx is 'The units that a user has bought on a drop, for its limit.';
