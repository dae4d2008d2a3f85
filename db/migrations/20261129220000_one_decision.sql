-- migrate:up

-- inventory.reserve_decisions decides the items of baskets, too, so what a function of their own needed is gone.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- squawk-ignore ban-drop-type
drop type inventory.item_facts;

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

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
