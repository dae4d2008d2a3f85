-- api.reserve_basket: on the node of its drops. A basket is all or nothing, and no transaction spans nodes.

create or replace function api.reserve_basket(
  p_user_id uuid,
  p_items api.basket_item[],
  p_idempotency_key text default null,
  p_ttl_seconds integer default 60
)
returns table (index integer, code text, message text, replayed boolean, basket api.basket_row)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_nodes integer[] := router.nodes_of_items(p_items);
begin
  perform router.refuse_block();
  if cardinality(v_nodes) > 1 then
    perform router.refuse('BASKET_SPANS_NODES');
  end if;
  return query
  select r.*
  from json_to_recordset(router.ask(v_nodes[1], 'reserve_basket', jsonb_build_object(
    'p_user_id', p_user_id, 'p_items', p_items, 'p_idempotency_key', p_idempotency_key, 'p_ttl_seconds', p_ttl_seconds)))
    as r (index integer, code text, message text, replayed boolean, basket api.basket_row);
end
$$;

create or replace function router.nodes_of_items(p_items api.basket_item[])
returns integer[]
language sql stable
as $$
  select coalesce(
    nullif(array(select distinct router.node_of(i.drop_id) from unnest(p_items) i where i.drop_id is not null), '{}'),
    (router.all_nodes())[1:1])
$$;

comment on function router.nodes_of_items(api.basket_item[]) is
'The nodes of the drops of a basket; of one without drops the first, which refuses it.';

comment on function api.reserve_basket(uuid, api.basket_item[], text, integer) is
'Hold all of 1 to 20 items for a user, or none. If all are held the answer is one row with the basket; otherwise it has one row
for each refused item: index is its place in p_items, from 0 on. A hold lasts hold_seconds of its drop, or else p_ttl_seconds. A
repeated p_idempotency_key returns the first basket as it is now, with replayed true. With several drops no lock but the first is
waited for longer than 100 ms (55P03). select index, code, message, (basket).* from api.reserve_basket(''<user>'',
array[row(''<drop>'', ''<variant or null>'', 1)]::api.basket_item[]);';
