-- api.help: the functions that the caller may call, in one screen.
--
-- A line of each: its arguments, those that may be left out in brackets, and the first sentence of its comment. \df+ shows all.
-- Batches are left out, because they are for programs, and so are functions that are superseded.
--
-- Locks: none. Errors: none.

create or replace function api.help()
returns table (function text, arguments text, does text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select p.proname::text, left(a.names, 60), left(split_part(replace(said.text, E'\n', ' '), '. ', 1), 70)
  from pg_proc p
  cross join lateral (select obj_description(p.oid, 'pg_proc') as text) said
  cross join lateral (
    select coalesce(string_agg(
      case when x.n > p.pronargs - p.pronargdefaults then '[' || substr(x.name, 3) || ']' else substr(x.name, 3) end, ', '
      order by x.n), '') as names
    from unnest(p.proargnames) with ordinality as x (name, n)
    where x.n <= p.pronargs
  ) a
  where p.pronamespace = 'api'::regnamespace
    and has_function_privilege(coalesce(nullif(current_setting('role'), 'none'), session_user), p.oid, 'execute')
    and p.proname !~ '_batch$|_from_json$' and said.text !~* '^superseded'
  order by p.proname, p.pronargs
$$;

comment on function api.help() is 'List the functions that you may call, with arguments and purpose. Arguments are named p_….';
