-- api.drop_money: the money of a drop, or of the drops of all nodes, by currency.

create or replace function api.drop_money(p_drop_id uuid default null)
returns table (currency text, sold_for numeric, refunded numeric, open numeric, counts jsonb)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_arguments constant jsonb := jsonb_build_object('p_drop_id', p_drop_id);
begin
  return query
  with of_nodes as materialized (
    select r.*
    from json_to_recordset(
      case when p_drop_id is null
        then router.together(array(select a.rows from router.ask_all('drop_money', v_arguments) a))
        else router.ask(router.node_of(p_drop_id), 'drop_money', v_arguments)
      end
    ) as r (currency text, sold_for numeric, refunded numeric, open numeric, counts jsonb)
  )
  select o.currency, sum(o.sold_for), sum(o.refunded), sum(o.open), (
    select jsonb_object_agg(c.status, c.purchases)
    from (
      select e.key as status, sum(e.value::bigint) as purchases
      from of_nodes s cross join lateral jsonb_each_text(s.counts) e
      where s.currency = o.currency
      group by e.key
    ) c)
  from of_nodes o
  group by o.currency
  order by o.currency;
end
$$;

comment on function api.drop_money(uuid) is
'The money of a drop, or of all: what was sold, refunded and is not paid yet, and how many purchases have each status, by
currency.';
