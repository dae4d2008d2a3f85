-- inventory.whole_number: a JSON number as an integer; null if it is none, or is out of range.
--
-- Locks: none. Errors: none.

create or replace function inventory.whole_number(p_value jsonb)
returns integer
language sql immutable
as $$
  select case
    when jsonb_typeof(p_value) = 'number' then
      case
        when abs(p_value::numeric) <= 2147483647 and p_value::numeric = trunc(p_value::numeric) then p_value::numeric::integer
      end
  end
$$;

comment on function inventory.whole_number(jsonb) is 'A JSON number as an integer; null if it is none.';
