-- api.activity: what happened on all nodes, and the position of each node from which a reader goes on, as `0:1234,2:77`.
--
-- The latest 200 events of all nodes together, oldest first, with ids of the same form. Drops of several nodes alternate.

create or replace function api.activity(p_seconds integer default 3600, p_drop_ids uuid[] default null)
returns table ("position" text, "from" timestamptz, "to" timestamptz, events json, bucket_seconds integer, drops json)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_events constant integer := 200;
  c_drops constant integer := 50;
begin
  return query
  with of_node as materialized (
    select a.node, a.place, r.*
    from router.ask_all('activity', jsonb_build_object('p_seconds', p_seconds, 'p_drop_ids', p_drop_ids))
      with ordinality as a (node, rows, place)
    cross join lateral json_to_recordset(a.rows) as r (
      "position" text, "from" timestamptz, "to" timestamptz, events json, bucket_seconds integer, drops json)
  )
  select
    string_agg(format('%s:%s', o.node, o."position"), ',' order by o.place), min(o."from"), max(o."to"),
    (
      select coalesce(json_agg(l.event order by l.at, l.place, l.n), '[]')
      from (
        select
          json_build_object(
            'id', format('%s:%s', n.node, e.value ->> 'id'), 'type', e.value -> 'type', 'dropId', e.value -> 'dropId',
            'at', e.value -> 'at', 'data', e.value -> 'data') as event,
          (e.value ->> 'at')::timestamptz as at, n.place, e.n
        from of_node n cross join lateral json_array_elements(n.events) with ordinality as e (value, n)
        order by at desc, n.place desc, e.n desc
        limit c_events
      ) l
    ),
    min(o.bucket_seconds),
    (
      select coalesce(json_agg(l.value order by l.n, l.place), '[]')
      from (
        select e.value, e.n, n.place
        from of_node n cross join lateral json_array_elements(n.drops) with ordinality as e (value, n)
        order by e.n, n.place
        limit case when p_drop_ids is null then c_drops end
      ) l
    )
  from of_node o
  having count(*) > 0;
  if not found then
    perform router.refuse_away(router.all_nodes());
  end if;
end
$$;

comment on function api.activity(integer, uuid[]) is
'What happened in the last p_seconds, of the drops p_drop_ids or of all: the latest 200 events, oldest first, the stock of drops
by time, and the position, an event id of each node, after which a reader goes on. select * from api.activity(600);';
