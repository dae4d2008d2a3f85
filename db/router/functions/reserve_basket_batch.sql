-- api.reserve_basket_batch: each basket on the node of its drops; one whose drops are on several nodes is refused.

create or replace function api.reserve_basket_batch(p_requests api.basket_request[], p_ttl_seconds integer default 60)
returns setof api.outcome
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_spanning integer[] := array(
    select q.ordinality::integer from unnest(p_requests) with ordinality q
    where cardinality(router.nodes_of_items(q.items)) > 1 order by 1);
  v_others integer[] := array(select n from generate_series(1, cardinality(p_requests)) n where n <> all (v_spanning) order by n);
  v_requests api.basket_request[] := array(select p_requests[o.n] from unnest(v_others) with ordinality as o (n, place) order by o.place);
  v_outcomes api.outcome[];
begin
  perform router.refuse_block();
  v_outcomes := array(
    select row(v_others[o.n], o.status, o.code, o.message, o.replayed, o.data)::api.outcome
    from router.batch(
      'reserve_basket_batch', jsonb_build_object('p_requests', to_jsonb(v_requests), 'p_ttl_seconds', p_ttl_seconds),
      array(
        select (select i.drop_id from unnest(q.items) i where i.drop_id is not null limit 1)
        from unnest(v_requests) with ordinality q order by q.ordinality)) o
    where v_spanning = '{}' or v_requests <> '{}'
    union all
    select row(s.n, e.status, e.code, e.message, false, null)::api.outcome
    from unnest(v_spanning) as s (n)
    join api.errors() e on e.code = 'BASKET_SPANS_NODES');
  return query select o.* from unnest(v_outcomes) o order by o.n;
end
$$;

comment on function api.reserve_basket_batch(api.basket_request[], integer) is
'Hold all items of each basket, or none of it, in the order given. The answer has one row a request: n is its place in p_requests,
status the HTTP status, code and message say why it is refused; data is the basket or, with BASKET_REFUSED, a list of the refused
items. A hold lasts hold_seconds of its drop, or else p_ttl_seconds. With several drops no lock but the first is waited for longer
than 100 ms (55P03). select * from api.reserve_basket_batch(array[row(''<user>'', array[row(''<drop>'', ''<variant or null>'',
1)]::api.basket_item[], ''<key or null>'')]::api.basket_request[]);';
