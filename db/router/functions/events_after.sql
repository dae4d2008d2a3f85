-- api.events_after: the events of one node. Every node numbers its own events, so there is no id after which those of all come.

create or replace function api.events_after(p_after bigint, p_limit integer, p_drop_ids uuid[], p_user_id uuid)
returns table (type text, id text, drop_id uuid, user_id uuid, data json)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select r.*
  from json_to_recordset(router.ask(
    router.node_of_events(p_drop_ids), 'events_after',
    jsonb_build_object('p_after', p_after, 'p_limit', p_limit, 'p_drop_ids', p_drop_ids, 'p_user_id', p_user_id)
  )) as r (type text, id text, drop_id uuid, user_id uuid, data json);
end
$$;

comment on function api.events_after(bigint, integer, uuid[], uuid) is
'As events_after without a user, and also the events that are for the user p_user_id alone.';

create or replace function api.events_after(p_after bigint, p_limit integer default 1000, p_drop_ids uuid[] default null)
returns table (type text, id text, drop_id uuid, data json)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select r.*
  from json_to_recordset(router.ask(
    router.node_of_events(p_drop_ids), 'events_after',
    jsonb_build_object('p_after', p_after, 'p_limit', p_limit, 'p_drop_ids', p_drop_ids)
  )) as r (type text, id text, drop_id uuid, data json);
end
$$;

comment on function api.events_after(bigint, integer, uuid[]) is
'The events after event p_after, of the drops p_drop_ids, which must be on one node, oldest first, at most p_limit. After null: the
latest ones. One RESYNC_REQUIRED, of no drop, if the log cannot tell what came after that event.';

create or replace function router.node_of_events(p_drop_ids uuid[])
returns integer
language plpgsql stable
as $$
declare
  v_nodes integer[] := case
    when p_drop_ids is null then router.all_nodes()
    else array(select distinct router.node_of(d.id) from unnest(p_drop_ids) as d (id))
  end;
begin
  if cardinality(v_nodes) = 1 then
    return v_nodes[1];
  end if;
  perform router.refuse('VALIDATION_ERROR', format(
    'p_drop_ids: must name drops of one node, because every node numbers its own events; here they are of %s. Call %s for each node.',
    coalesce(router.names_of(v_nodes), 'no node'), 'node_<n>.events_after'));
end
$$;

comment on function router.node_of_events(uuid[]) is 'The node that has the events of these drops. Raises VALIDATION_ERROR if there are several.';
