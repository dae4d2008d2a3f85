-- inventory.changed_fields: the fields in which two JSON objects differ, each with "from" and "to".
--
-- Locks: none. Errors: none.

create or replace function inventory.changed_fields(p_old jsonb, p_new jsonb)
returns jsonb
language sql immutable parallel safe
as $$
  select coalesce(jsonb_object_agg(n.key, jsonb_build_object('from', p_old -> n.key, 'to', n.value)), '{}')
  from jsonb_each(p_new) n
  where n.value is distinct from p_old -> n.key
$$;

comment on function inventory.changed_fields(jsonb, jsonb) is 'The fields in which two objects differ: {"field": {"from", "to"}}.';
