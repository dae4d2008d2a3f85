-- migrate:up

-- Baskets share calls: api.reserve_basket_batch takes many of them.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

create type api.basket_request as (
  user_id uuid,
  items api.basket_item[],
  idempotency_key text
);
comment on type api.basket_request is
'One request of api.reserve_basket_batch: hold all of the items for user_id, or none. Without a key it is null.';

create type api.refused_item as (
  index integer,
  code text,
  message text
);
comment on type api.refused_item is 'An item of a basket that cannot be held: its place in the items, from 0 on, and why.';

create type inventory.item_facts as (
  place integer,
  basket_n integer,
  user_id uuid,
  variant_id uuid,
  qty integer,
  first_place_of_user integer,
  stock_n integer,
  user_exists boolean,
  drop_refusal text,
  holds boolean,
  units integer,
  limit_per_user integer,
  may_hold_at timestamptz
);
comment on type inventory.item_facts is 'What inventory.basket_decisions knows about an item before it decides.';

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- The functions that take or return these types go with them.
-- squawk-ignore ban-drop-type
drop type api.basket_request, api.refused_item, inventory.item_facts cascade;
-- The function files that use what is gone are applied again when this migration is.
delete from inventory.function_files;
