-- inventory.variant_weight: a number that stands for a variant in a sum over several; null for none.
--
-- Purpose: inventory.changes keeps one number for all variants of a drop, the sum of what each of them gained times its weight. If
-- one has gained a unit and another has lost one, the sum is not 0, because their weights differ (of a million pairs one does not).
--
-- Locks: none. Errors: none. PostgreSQL puts the expression into the query that calls this function.

create or replace function inventory.variant_weight(p_variant_id uuid)
returns bigint
language sql immutable parallel safe
as $$
  select uuid_hash_extended(p_variant_id, 0) % 1000003
$$;

comment on function inventory.variant_weight(uuid) is 'A number that stands for a variant in a sum over several; null for none.';
