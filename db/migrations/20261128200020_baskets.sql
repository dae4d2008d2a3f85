-- migrate:up

-- Baskets: units of several drops and variants that are held, bought or given back together.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

create table inventory.baskets (
  id uuid not null default inventory.uuid_v7() primary key,
  user_id uuid not null constraint baskets_user_id_fkey references inventory.users (id),
  idempotency_key text,
  items jsonb not null,
  created_at timestamptz not null default now(),
  constraint baskets_idempotency_key unique (user_id, idempotency_key),
  constraint baskets_idempotency_key_check check (idempotency_key ~ '^[!-~]{1,255}$')
);
comment on table inventory.baskets is
'Holds of a user that were made together. It has no drop_id, because its holds may be of several drops: reservations.basket_id.';
comment on column inventory.baskets.items is
'What was asked for: a list of api.basket_item. It tells whether a repeated Idempotency-Key came with the same request.';
comment on constraint baskets_idempotency_key_check on inventory.baskets is
'Idempotency-Key: must be 1 to 255 visible ASCII characters';

create type api.basket_item as (
  drop_id uuid,
  variant_id uuid,
  qty integer
);
comment on type api.basket_item is
'One item of api.reserve_basket: qty units (null: 1) of drop_id, of its variant_id if it has variants.';

create type api.basket_row as (
  id uuid,
  user_id uuid,
  reservations api.reservation_row[],
  amounts jsonb,
  expires_at timestamptz,
  "createdAt" timestamptz
);
comment on type api.basket_row is
'A basket. Its reservations have the order of its items. amounts has their cost by currency, expires_at is when the first ends.';

-- migrate:down

-- The holds stay; what is lost is that they belong together.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- The functions that take or return these types go with them.
-- squawk-ignore ban-drop-type
drop type api.basket_row, api.basket_item cascade;
-- squawk-ignore ban-drop-table
drop table inventory.baskets cascade; -- and the functions that take its rows
-- The function files that use what is gone are applied again when this migration is.
delete from inventory.function_files;
