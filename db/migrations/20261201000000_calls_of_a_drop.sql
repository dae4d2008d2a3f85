-- migrate:up

-- A session that planned api.take_provider_calls when statistics knew the calls of one drop only kept a plan that looks calls up by
-- their ids in provider_calls_drop_idx, where it passes over one drop after the other. The condition hides that index from queries
-- that do not compare drop_id, as with purchases_of_user_idx.

-- squawk-ignore-file require-concurrent-index-creation, require-concurrent-index-deletion, prefer-robust-stmts

set local lock_timeout = '5s';
set local statement_timeout = '60s';

drop index inventory.provider_calls_drop_idx;
create index provider_calls_drop_idx on inventory.provider_calls (drop_id, id) where drop_id is not null;
comment on index inventory.provider_calls_drop_idx is 'Finds the calls of a drop for its seller.';

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

drop index inventory.provider_calls_drop_idx;
create index provider_calls_drop_idx on inventory.provider_calls (drop_id, id);
comment on index inventory.provider_calls_drop_idx is 'The calls of a drop, for its seller.';
