-- What the tables of the nodes need on the router of the tests. See whole_cluster.py.

-- The number of the node that has the row with this id, as router.node_of says it, for the nodes 0 and 1. It is immutable, because it
-- divides tables into partitions.
create function inventory.number_of(p_id uuid)
returns integer
language sql immutable
as $$
  select case when get_byte(uuid_send(p_id), 6) >> 4 = 7 and get_byte(uuid_send(p_id), 9) = 1 then 1 else 0 end
$$;

create table inventory.event_order (nothing boolean);

create type inventory.new_event as (drop_id uuid, type text, data json, user_id uuid);

create function inventory.publish(p_events inventory.new_event[])
returns void
language plpgsql
as $$
declare
  v_node integer;
  v_events json;
begin
  for v_node, v_events in
    select inventory.number_of(e.drop_id), json_agg(e order by e.place)
    from unnest(p_events) with ordinality as e (drop_id, type, data, user_id, place) group by 1
  loop
    perform dblink_exec('data_' || v_node, format(
      'do $do$ begin
        lock table inventory.event_order in share update exclusive mode;
        perform inventory.publish(array(select e from json_populate_recordset(null::inventory.new_event, %L) e));
      end $do$', v_events));
  end loop;
end
$$;
