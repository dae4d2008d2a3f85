-- api.audit: the violated invariants of every node, and a row for each node that could not be asked.

create or replace function api.audit()
returns table (drop_id uuid, invariant text, expected bigint, found bigint)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select r.drop_id, format('node %s: %s', a.node, r.invariant), r.expected, r.found
  from router.ask_all('audit', '{}') a
  cross join lateral json_to_recordset(a.rows) as r (drop_id uuid, invariant text, expected bigint, found bigint);
  return query
  select null::uuid, away.name || ': can be reached', 1::bigint, 0::bigint
  from unnest(string_to_array(nullif(current_setting('lastpair.incomplete', true), ''), ', ')) as away (name);
end
$$;

comment on function api.audit() is
'List the violated invariants of every node, one row each, with the expected and the found number; no rows means healthy. A node
that cannot be asked has a row, too.';
