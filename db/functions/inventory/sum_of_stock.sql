-- inventory.sum_of_stock: the units of these variants together.
--
-- Locks: none. Errors: VALIDATION_ERROR (more units than an integer holds).

create or replace function inventory.sum_of_stock(p_variants inventory.variants[])
returns integer
language plpgsql stable
as $$
begin
  return (select sum(v.total_stock) from unnest(p_variants) v)::integer;
exception when numeric_value_out_of_range then
  perform inventory.refuse('VALIDATION_ERROR', 'variants: have more units together than a drop can have');
end
$$;

comment on function inventory.sum_of_stock(inventory.variants[]) is 'The units of these variants together.';
