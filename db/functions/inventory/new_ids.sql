-- inventory.new_ids: so many new UUIDs of version 7, which sort in this order, behind all that were made before.
--
-- Purpose: a call for many requests needs an id for each. inventory.uuid_v7 asks the system for random bytes each time, which takes
-- 4 us; here one secret seed serves all: the random part of an id is the SHA-256 of the seed and the id's number.
--
-- The first 48 bits are the time in milliseconds. The 12 bits after the version are a fraction of it, as PostgreSQL's own uuidv7
-- makes them, and the number is added to it. Byte 9 is the number of the node, as in every id.
--
-- Locks: none. Errors: none.

create or replace function inventory.new_ids(p_count integer)
returns uuid[]
language plpgsql
as $$
declare
  v_seed bytea;
  v_moment bigint; -- in 1/4096 of a millisecond
begin
  if p_count = 1 then
    return array[inventory.uuid_v7()];
  end if;
  v_seed := uuid_send(gen_random_uuid());
  v_moment := extract(epoch from clock_timestamp()) * 4096000;
  return array(
    select
      encode(
        int8send((i.moment >> 12 << 16) | x'7000'::bigint | (i.moment & 4095))
          || substr(set_byte(set_byte(i.random, 0, get_byte(i.random, 0) & 63 | 128), 1, inventory.node()), 1, 8),
        'hex')::uuid
    from (
      select v_moment + n as moment, sha256(v_seed || int4send(n)) as random
      from generate_series(1, p_count) n
      offset 0 -- otherwise the hash would be computed wherever its result is used
    ) i
  );
end
$$;

comment on function inventory.new_ids(integer) is 'So many new UUIDs of version 7, in rising order.';
