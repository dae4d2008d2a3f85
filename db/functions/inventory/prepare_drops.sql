-- inventory.prepare_drops: get drops ready for these reserve requests, and return their rows as the requests will find them.
--
-- Purpose: the first step of inventory.reserve_on_drops and inventory.reserve_baskets. A drop is locked only if a unit can be taken
-- from it: when it is on sale and has stock, or has holds that are due and can be taken back. Otherwise it is not locked or
-- written, so a crowd that asks for a drop that is sold out does not queue. inventory.take_back_due takes back what is due.
--
-- p_drop_ids are the drops of the requests, in the order of their ids. The answer:
--   drops      the row of each drop; a drop that does not exist is a row of nulls. One that was not locked is as it was when it was
--              seen to sell nothing, so nothing is taken from it, whatever came back since.
--   due_ids    the drops on which something was due
--
-- Locks, in this order: the rows of the drops, in the order of their ids; due reservations, with skip locked. Errors: none.
--
-- Plans: the caller's settings are in force, see inventory.reserve_on_drops.

create or replace function inventory.prepare_drops(
  p_drop_ids uuid[],
  p_requests api.reserve_request[],
  out drops inventory.drops[],
  out due_ids uuid[]
)
language plpgsql
as $$
declare
  v_selling_ids uuid[];
  v_locked inventory.drops[];
  v_drop inventory.drops;
begin
  due_ids := '{}';
  select
    coalesce(array_agg(d order by d.id), '{}'), coalesce(array_agg(d.id order by d.id) filter (where inventory.can_sell(d)), '{}')
  into drops, v_selling_ids
  from inventory.drops d
  where d.id = any (p_drop_ids);
  if v_selling_ids <> '{}' then
    v_locked := array(select d from inventory.drops d where d.id = any (v_selling_ids) order by d.id for no key update);
    -- This is asked again under the locks, because the answer may have changed while this call waited for them.
    foreach v_drop in array v_locked loop
      if v_drop.nothing_due_before <= now() then -- not so before the first hold of a sale ends
        due_ids := inventory.drops_with_due(v_locked);
        exit;
      end if;
    end loop;
    if due_ids <> '{}' then
      foreach v_drop in array v_locked loop
        continue when v_drop.id <> all (due_ids);
        perform inventory.take_back_due(v_drop, array(select q from unnest(p_requests) q where q.drop_id = v_drop.id));
      end loop;
      v_locked := array(select d from inventory.drops d where d.id = any (v_selling_ids) order by d.id);
    end if;
    if cardinality(v_locked) = cardinality(p_drop_ids) then
      drops := v_locked;
      return;
    end if;
  end if;
  if cardinality(drops) < cardinality(p_drop_ids) or v_selling_ids <> '{}' then
    drops := array(
      select coalesce(
        v_locked[array_position(v_selling_ids, k.id)], drops[array_position(array(select d.id from unnest(drops) d), k.id)])
      from unnest(p_drop_ids) with ordinality as k (id, n)
      order by k.n
    );
  end if;
end
$$;

comment on function inventory.prepare_drops(uuid[], api.reserve_request[]) is
'The drops as these requests will find them: locked, and what is due taken back, but only if a unit can be taken.';
