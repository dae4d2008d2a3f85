-- migrate:up

-- What a purchase knows about the hold that it means, as one value: one array of them costs less than an array for each fact.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

create type inventory.hold_facts as (
  hold_id uuid,
  is_due boolean,
  has_several boolean,
  variant_id uuid,
  qty integer,
  unit_price numeric,
  currency text
);
comment on type inventory.hold_facts is
'The hold that a purchase request means, or nulls: whether it has run out, whether the request could mean several, and its facts.';

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- The function that takes this type goes with it.
-- squawk-ignore ban-drop-type
drop type inventory.hold_facts cascade;
-- The function files that use what is gone are applied again when this migration is.
delete from inventory.function_files where path in ('inventory/purchase_on_drop.sql', 'inventory/purchase_decisions.sql');
