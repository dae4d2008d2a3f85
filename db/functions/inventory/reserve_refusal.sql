-- inventory.reserve_refusal: the code with which a request for units is refused, or null if it gets them.
--
-- Purpose: the rule, and the order of its conditions. inventory.reserve_decisions applies it to one request after the other,
-- with what is left by then. p_drop_refusal: see inventory.drop_refusal. p_stock are the units that are
-- left of what is asked for. The other values are those of inventory.reserve_facts.
--
-- Locks: none. Errors: none. Plans: a plain SQL expression, which PostgreSQL puts into the caller's.

create or replace function inventory.reserve_refusal(
  p_user_exists boolean,
  p_drop_refusal text,
  p_variant_n integer,
  p_holds boolean,
  p_units integer,
  p_limit_per_user integer,
  p_may_hold_at timestamptz,
  p_stock integer,
  p_qty integer
)
returns text
language sql stable
as $$
  select case
    when not p_user_exists then 'AUTH_REQUIRED'
    when p_drop_refusal is not null then p_drop_refusal
    when p_variant_n is null then 'VARIANT_NOT_FOUND'
    when p_holds then 'ALREADY_RESERVED'
    when p_units::bigint + p_qty > p_limit_per_user then 'LIMIT_EXCEEDED'
    when p_may_hold_at > now() then 'RESERVED_TOO_SOON'
    when p_stock < p_qty then 'OUT_OF_STOCK'
  end
$$;

comment on function
inventory.reserve_refusal(boolean, text, integer, boolean, integer, integer, timestamptz, integer, integer) is
'The code with which a request for units is refused, or null if it gets them.';
