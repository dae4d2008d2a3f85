-- migrate:up

-- At the commit the stock of each variant has to balance too. A unit that was moved by hand from one variant to another was sold twice,
-- because the stock of the drop stayed the sum of its variants.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

alter table inventory.changes add column if not exists variant_balance numeric not null default 0;
comment on column inventory.changes.variant_balance is
'What each variant has available, held and sold more, less what it has more in total, times its inventory.variant_weight: 0 if all balance.';

-- migrate:down

-- The column of inventory.changes stays, because the functions that fill and read it run until those of the version before are applied.
