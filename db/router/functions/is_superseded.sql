-- api.is_superseded: whether a process has older function files than this router.

create or replace function api.is_superseded(p_checksum text)
returns boolean
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(
    (select s.number < (select max(l.number) from router.function_sets l) from router.function_sets s where s.checksum = p_checksum),
    false)
$$;

comment on function api.is_superseded(text) is
'Whether the set of function files with this SHA-256 was deployed here and then replaced by a later deployment.';
