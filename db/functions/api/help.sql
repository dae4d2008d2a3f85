-- api.help: the functions that the caller may call, in one screen for buyers and sellers.
--
-- Of each its arguments, those that may be left out in brackets, and the begin of the first sentence of its comment. \df+ shows
-- all. Batches, outcomes and what a worker of payments or a router calls are left out, because they are for programs, and so are
-- functions that are superseded.
--
-- Locks: none. Errors: none.

create or replace function api.help()
returns table (function text, arguments text, does text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select
    p.proname::text,
    case when length(a.names) > 60 then regexp_replace(a.names, '(.{40,58},) ', E'\\1\n', 'g') else a.names end,
    case when length(first.sentence) > 70 then regexp_replace(left(first.sentence, 69), '\s+\S*$', '') || '…' else first.sentence end
  from pg_proc p
  cross join lateral (select obj_description(p.oid, 'pg_proc') as text) said
  cross join lateral (
    select coalesce(string_agg(
      case when x.n > p.pronargs - p.pronargdefaults then '[' || substr(x.name, 3) || ']' else substr(x.name, 3) end, ', '
      order by x.n), '') as names
    from unnest(p.proargnames) with ordinality as x (name, n)
    where x.n <= p.pronargs
  ) a
  cross join lateral (select split_part(replace(said.text, E'\n', ' '), '. ', 1) as sentence) first
  where p.pronamespace = 'api'::regnamespace
    and has_function_privilege(coalesce(nullif(current_setting('role'), 'none'), session_user), p.oid, 'execute')
    and p.proname !~ '_(batch|from_json|outcome)$|^(take|finish|fail)_(provider|webhook)|^record_payment' and said.text !~* '^(superseded|for a router)'
  order by p.proname, p.pronargs
$$;

comment on function api.help() is 'List the functions that you may call, with arguments and purpose. Arguments are named p_….';
