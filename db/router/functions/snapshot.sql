-- api.snapshot: the drops of all nodes, and for each node the id of the last event that is in them, as `0:1234,2:77`.
--
-- The nodes are read one after the other, each at one moment of its own. If one is away, `incomplete` in the data names it.

create or replace function api.snapshot(p_drop_ids uuid[] default null)
returns table (type text, id text, drop_id uuid, data json)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_ids text[] := '{}';
  v_drops json[] := '{}';
  v record;
begin
  for v in select a.node, a.rows -> 0 as row from router.ask_all('snapshot', jsonb_build_object('p_drop_ids', p_drop_ids)) a loop
    v_ids := v_ids || format('%s:%s', v.node, v.row ->> 'id');
    v_drops := v_drops || (v.row -> 'data' -> 'drops');
  end loop;
  type := 'SNAPSHOT';
  id := array_to_string(v_ids, ',');
  data := (
    select json_build_object('drops', coalesce(
      json_agg(e.value order by (e.value ->> 'starts_at')::timestamptz desc nulls last, (e.value ->> 'id')::uuid desc), '[]'))
    from json_array_elements(router.together(v_drops)) e
  );
  if coalesce(current_setting('lastpair.incomplete', true), '') <> '' then
    data := json_build_object(
      'drops', data -> 'drops', 'incomplete', string_to_array(current_setting('lastpair.incomplete'), ', '));
  end if;
  return next;
end
$$;

comment on function api.snapshot(uuid[]) is
'The drops p_drop_ids, or all that are scheduled or live, as a SNAPSHOT event; no drafts, because it is public. Its id names the last event of each node in it.';
