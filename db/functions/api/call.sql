-- api.call: call a public function as one of the three roles. A refusal is returned and not raised. Routers use it.
--
-- Purpose: a refusal that is raised would cost the router its connection to this node. The rows are a JSON array in the order of the
-- function: an object for each row, or the bare value of a function of one column; nothing of a function that returns void. The
-- status is then 200, whatever an outcome among the rows says. If the function refuses, its work is undone, and status, code and
-- message are those of the refusal. Every other error is raised.
--
-- p_arguments is a JSON object: the function's arguments by name. One that is left out has its default; a JSON null is null.
--
-- It runs with the rights of its caller, because a function with the rights of its owner cannot set a role. The caller's login must
-- be a member of p_role (db/recipes/role.sql). The function is called with the rights of p_role and no other. Role and claims are set
-- for the transaction at most, and are put back when the function has returned; PostgreSQL does so if it has raised an error.
--
-- Locks: those of the function. Errors: those of the function that are no refusals; invalid_parameter_value (22023): p_role is no
-- such role; undefined_function (42883): there is no public function of this name with these arguments.

create or replace function api.call(p_role text, p_claims text, p_function text, p_arguments json)
returns table (status integer, code text, message text, rows json)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_names text[] := array(select k.name from json_object_keys(p_arguments) k (name));
  v_columns text; -- the arguments with their types
  v_arguments text;
  v_result regtype;
  v_own_role text := current_setting('role');
  v_own_claims text := coalesce(current_setting('request.jwt.claims', true), '');
begin
  if p_role in ('lastpair_buyer', 'lastpair_seller', 'lastpair_service') is not true then
    raise invalid_parameter_value using message = format('%L is not a role that a router calls for', p_role);
  end if;
  select
    string_agg(format('%I %s', a.name, format_type(a.type, null)), ', ') filter (where a.name = any (v_names)),
    string_agg(format('%1$I => a.%1$I', a.name), ', ') filter (where a.name = any (v_names)),
    p.prorettype
  into v_columns, v_arguments, v_result
  from pg_proc p
  left join lateral (
    select x.name, x.type, x.n from unnest(p.proargnames, p.proargtypes::oid[]) with ordinality x (name, type, n) where x.n <= p.pronargs
  ) a on true
  where p.pronamespace = 'api'::regnamespace and p.proname = p_function and p.prokind = 'f'
  group by p.oid
  having coalesce(array_agg(a.name), '{}') @> v_names
    and coalesce(bool_and(a.name = any (v_names) or a.n > p.pronargs - p.pronargdefaults), true)
  order by p.pronargs
  limit 1;
  if not found then
    raise undefined_function using
      message = format('there is no function api.%I with the arguments (%s)', p_function, array_to_string(v_names, ', '));
  end if;
  begin
    perform set_config('request.jwt.claims', coalesce(p_claims, ''), true);
    perform set_config('role', p_role, true);
    execute format(
      'select %s from %s api.%I(%s) r',
      case when v_result = 'void'::regtype then '''[]''::json' else 'coalesce(json_agg(r), ''[]'')' end,
      'json_to_record($1) as a(' || v_columns || ') cross join lateral', p_function, coalesce(v_arguments, ''))
    into rows
    using p_arguments;
    perform set_config('role', v_own_role, true);
    perform set_config('request.jwt.claims', v_own_claims, true);
    status := 200;
  exception when others then
    if sqlstate not like 'PT___' then
      raise;
    end if;
    get stacked diagnostics code = message_text, message = pg_exception_detail;
    status := substr(sqlstate, 3)::integer;
  end;
  return next;
end
$$;

comment on function api.call(text, text, text, json) is
'For a router: call the public function p_function as p_role with p_claims and with the arguments of a JSON object, by name. The
rows come as a JSON array with status 200, or else the status, code and message of the refusal.';
