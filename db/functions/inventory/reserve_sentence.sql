-- inventory.reserve_sentence: a sentence for a refusal of inventory.reserve_refusal that is more precise than that of its code,
-- or null if there is none.
--
-- Locks: none. Errors: none. Plans: a plain SQL expression, which PostgreSQL puts into the caller's.

create or replace function inventory.reserve_sentence(
  p_code text,
  p_variant_id uuid,
  p_units integer,
  p_limit_per_user integer,
  p_may_hold_at timestamptz,
  p_stock integer
)
returns text
language sql stable
as $$
  select case
    when p_code = 'VARIANT_NOT_FOUND' and p_variant_id is null then 'This drop has variants. Say which one: variant_id.'
    when p_code = 'LIMIT_EXCEEDED' then
      format('You may have %s of this drop, and you hold or have bought %s.', p_limit_per_user, p_units)
    when p_code = 'RESERVED_TOO_SOON' then
      format(
        'You let a hold of this drop go. You may hold units again in %s seconds.',
        ceil(extract(epoch from p_may_hold_at - now())))
    when p_code = 'OUT_OF_STOCK' and p_stock > 0 then format('Only %s left of what you asked for.', p_stock)
    when p_code = 'OUT_OF_STOCK' and p_variant_id is not null then 'None left of what you asked for.'
  end
$$;

comment on function inventory.reserve_sentence(text, uuid, integer, integer, timestamptz, integer) is
'A sentence for a refused request for units that is more precise than that of its code, or null.';
