-- The router: what stands in front of several nodes. Its database has the functions of the schema api and no data. Each function calls the
-- node on which the work is to be done, through PL/Proxy; an id says which node that is.
--
--   router.nodes          the nodes, in the order in which they joined
--   server node_<n>       the address of node n (SQL/MED), with the login in the user mapping of the owner
--   schema node_<n>       every public function as it is on node n
--   schema api            the same functions for all nodes together, generated from db/router/routes.txt
--
-- `lastpair migrate` runs this file at every deployment, in the transaction that makes the functions.
--
-- What a call does on a node is committed there when the call returns. ROLLBACK on the router does not undo it, so a function that
-- writes is refused inside a transaction block (router.refuse_block).

create table if not exists router.nodes (
  number smallint primary key,
  is_draining boolean not null default false,
  joined_at timestamptz not null,
  changed_at timestamptz not null default clock_timestamp(),
  drops_from timestamptz not null,
  away_until timestamptz,
  constraint nodes_number_check check (number between 0 and 255)
);
comment on table router.nodes is
'The nodes. is_draining: new drops go elsewhere. changed_at: when it joined, or is_draining was last changed. away_until: until
then it is taken for away without being asked (router.note_away). drops_from: new drops go to it from then on, because processes and
other routers learn of a new node some seconds later, and would look for its drops on the first node.';

create table if not exists router.deployed (
  path text primary key,
  checksum text
);
comment on table router.deployed is 'What api.deployed() says: the migrations and function files from which this router was made.';

create table if not exists router.function_sets (
  number bigint generated always as identity primary key,
  checksum text not null unique
);
comment on table router.function_sets is 'The sets of function files that were deployed here, as inventory.function_sets on a node.';


-- Which node ------------------------------------------------------------------------------------------------------------------

create or replace function router.name_of(p_node integer)
returns text
language sql immutable
as $$
  select 'node_' || p_node
$$;

comment on function router.name_of(integer) is 'The name of the server and of the schema of a node.';

-- Byte 9 of an id is the number of the node that made it. Three kinds of ids belong to the first node: those from before it joined,
-- because their byte 9 is random; those that are no UUIDv7; and those with a number that no node has. A null id also goes there, and
-- the node refuses it.
create or replace function router.node_of(p_id uuid)
returns integer
language plpgsql stable
as $$
declare
  v_bytes bytea := uuid_send(p_id);
  v_first router.nodes;
begin
  select * into v_first from router.nodes n order by n.joined_at, n.number limit 1;
  if not found then
    raise sqlstate 'PT503' using message = 'DATABASE_UNAVAILABLE', detail = 'This router has no node yet.';
  end if;
  if get_byte(v_bytes, 6) >> 4 = 7
    and ('x0000' || left(encode(v_bytes, 'hex'), 12))::bit(64)::bigint >= floor(extract(epoch from v_first.joined_at) * 1000) then
    return coalesce((select n.number from router.nodes n where n.number = get_byte(v_bytes, 9)), v_first.number);
  end if;
  return v_first.number;
end
$$;

comment on function router.node_of(uuid) is 'The number of the node on which the row with this id is.';

create or replace function router.all_nodes()
returns integer[]
language sql stable
as $$
  select array(select n.number::integer from router.nodes n order by n.joined_at, n.number)
$$;

comment on function router.all_nodes() is 'The numbers of all nodes, in the order in which they joined.';

create or replace function router.nodes_of_app()
returns table (number integer, is_draining boolean, address text, numbered_from_ms bigint)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select
    n.number, n.is_draining, substr(o.option, 4),
    floor(extract(epoch from (select min(f.joined_at) from router.nodes f)) * 1000)::bigint
  from router.nodes n
  join pg_foreign_server s on s.srvname = router.name_of(n.number)
  cross join lateral unnest(s.srvoptions) as o (option)
  where o.option like 'p0=%'
  order by n.joined_at, n.number
$$;

comment on function router.nodes_of_app() is
'The nodes, the first one first, with their addresses. Ids that are older than numbered_from_ms belong to the first node.';

create or replace function router.note_away(p_node integer, p_seconds integer)
returns void
language sql security definer
set search_path = pg_catalog, pg_temp
as $$
  update router.nodes n
  set away_until = case when p_seconds > 0 then clock_timestamp() + make_interval(secs => p_seconds) end
  where n.number = p_node
$$;

comment on function router.note_away(integer, integer) is
'For so many seconds take this node for away without asking it, because PL/Proxy waits for a frozen node until statement_timeout.
0: ask it again.';


-- A call of one node ----------------------------------------------------------------------------------------------------------

create or replace function router.call(
  p_node integer, p_role text, p_claims text, p_function text, p_arguments json
)
returns table (status integer, code text, message text, rows json)
language plproxy
as $$
  cluster router.name_of(p_node);
  run on 0;
  select c.status, c.code, c.message, c.rows from api.call(p_role, p_claims, p_function, p_arguments) c;
$$;

comment on function router.call(integer, text, text, text, json) is 'api.call on a node.';

-- The role for which a node runs a function: the service, if the caller may act as it; else the one of the others that the caller
-- is and that may execute the function. Who calls is the role that the session has set, or else the role that logged in.
create or replace function router.caller_role(p_function text)
returns text
language plpgsql stable
as $$
declare
  v_caller name := coalesce(nullif(current_setting('role'), 'none'), session_user);
begin
  if v_caller = current_user or pg_has_role(v_caller, 'lastpair_service', 'usage') then
    return 'lastpair_service';
  elsif pg_has_role(v_caller, 'lastpair_seller', 'usage') and exists (
    select from pg_proc p
    where p.pronamespace = 'api'::regnamespace and p.proname = p_function and has_function_privilege('lastpair_seller', p.oid, 'execute')
  ) then
    return 'lastpair_seller';
  end if;
  return 'lastpair_buyer';
end
$$;

comment on function router.caller_role(text) is 'The role for which a node runs this function.';

-- The only place that knows how PL/Proxy tells that a node is away: by internal_error and a message that begins with its name and
-- contains the address. Errors of the node keep their SQLSTATE and look like `call(5): [lastpair] REMOTE ERROR: …`. A function that
-- only reads is called once more, because the connection may be left over from before a restart of the node.
create or replace function router.try_call(p_node integer, p_role text, p_function text, p_arguments jsonb)
returns table (is_away boolean, status integer, code text, message text, rows json)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_claims text := current_setting('request.jwt.claims', true);
  v_message text;
  v_detail text;
  v_tries integer;
begin
  is_away := coalesce((select n.away_until > clock_timestamp() from router.nodes n where n.number = p_node), false);
  if is_away then
    return next;
    return;
  end if;
  for v_try in 1 .. 2 loop
    begin
      select c.status, c.code, c.message, c.rows into strict status, code, message, rows
      from router.call(p_node, p_role, v_claims, p_function, p_arguments::json) c;
      is_away := false;
      exit;
    exception when others then
      get stacked diagnostics v_message = message_text, v_detail = pg_exception_detail;
      if not (
        sqlstate = 'XX000' and v_message like 'PL/Proxy function %'
        or sqlstate in ('57P01', '57P02', '57P03', '25006') -- stopped, crashed, starting, a standby now
        or sqlstate like '08%'
      ) then
        raise exception using
          errcode = sqlstate,
          message = regexp_replace(v_message, '^[\w.]+\(\d+\): \[[^]]*\] REMOTE \w+: ', ''),
          detail = coalesce(nullif(regexp_replace(v_detail, '^Remote detail: ', ''), ''), format('It came from node %s.', p_node));
      end if;
      is_away := true;
      exit when exists (
        select from pg_proc p where p.pronamespace = 'api'::regnamespace and p.proname = p_function and p.provolatile = 'v');
    end;
  end loop;
  return next;
end
$$;

comment on function router.try_call(integer, text, text, jsonb) is
'Call a function on a node: whether the node is away, or else what api.call says there.';

create or replace function router.away_sentence(p_nodes integer[])
returns text
language sql immutable
as $$
  select format(
    case cardinality(p_nodes)
      when 0 then 'This router has no node yet.'
      when 1 then '%s cannot be reached right now. Its drops wait, others do not. Try again in a moment.'
      else '%s cannot be reached right now. Their drops wait, others do not. Try again in a moment.'
    end,
    'N' || substr(router.names_of(p_nodes), 2))
$$;

comment on function router.away_sentence(integer[]) is 'What a caller is told when nodes are away.';

create or replace function router.names_of(p_nodes integer[])
returns text
language sql immutable
as $$
  select string_agg('node ' || n.number, ', ' order by n.place) from unnest(p_nodes) with ordinality as n (number, place)
$$;

comment on function router.names_of(integer[]) is 'Nodes as people call them: node 2, node 5.';

create or replace function router.refuse_away(p_nodes integer[])
returns void
language plpgsql
as $$
begin
  raise sqlstate 'PT503' using message = 'DATABASE_UNAVAILABLE', detail = router.away_sentence(p_nodes);
end
$$;

comment on function router.refuse_away(integer[]) is 'Raise DATABASE_UNAVAILABLE, which names the nodes.';

create or replace function router.refuse(p_code text, p_message text default null)
returns void
language plpgsql
as $$
declare
  v_error record;
begin
  select * into strict v_error from api.errors() e where e.code = p_code;
  raise exception using
    errcode = 'PT' || v_error.status,
    message = v_error.code,
    detail = coalesce(p_message, v_error.message);
end
$$;

comment on function router.refuse(text, text) is 'Raise the error with this code of api.errors().';

-- In a transaction block now() is earlier than the time of the statement. If the machine is busy it is also some milliseconds earlier
-- for a client that sends Parse, Bind and Execute apart. Such a client has an open portal, which knows when it was bound, so only
-- the time of Parse is left. PostgREST, and the service behind a pooler, begin a block for each call. They are known by the claims
-- and by the role, and are not refused.
create or replace function router.refuse_block()
returns void
language plpgsql stable
as $$
declare
  v_bound_at timestamptz;
begin
  if current_setting('application_name') <> 'psql'
    and (coalesce(current_setting('request.jwt.claims', true), '') <> '' or current_setting('role') = 'lastpair_service') then
    return;
  end if;
  v_bound_at := (select min(c.creation_time) from pg_cursors c where not c.is_holdable);
  if v_bound_at - now() > interval '100 ms' or (v_bound_at is null and statement_timestamp() > now()) then
    raise exception using
      errcode = 'active_sql_transaction',
      message = 'this function cannot be called inside a transaction block on a router',
      detail = 'What it does is committed on a node at once, and ROLLBACK here would not undo it.',
      hint = 'Call it outside of BEGIN and COMMIT.';
  end if;
end
$$;

comment on function router.refuse_block() is 'Raise an error inside a transaction block, because what a node has done cannot be rolled back.';

-- A user who is known elsewhere acts on this node for the first time: the node refuses with AUTH_REQUIRED, gets to know the user, and
-- is asked once more.
create or replace function router.answer(p_node integer, p_function text, p_arguments jsonb)
returns table (is_away boolean, status integer, code text, message text, rows json)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_role text := router.caller_role(p_function);
  v record;
begin
  select * into strict v from router.try_call(p_node, v_role, p_function, p_arguments);
  if v.code = 'AUTH_REQUIRED' then
    if router.copy_users(p_node, router.ids_in(p_arguments)) then
      select * into strict v from router.try_call(p_node, v_role, p_function, p_arguments);
    end if;
  end if;
  return query select v.is_away, v.status, v.code, v.message, v.rows;
end
$$;

comment on function router.answer(integer, text, jsonb) is 'What a node answers to the caller, as router.try_call says it.';

create or replace function router.rows_or_refusal(p_node integer, p_answer record)
returns json
language plpgsql
as $$
begin
  if p_answer.is_away then
    perform router.refuse_away(array[p_node]);
  elsif p_answer.code is not null then
    raise exception using errcode = 'PT' || p_answer.status, message = p_answer.code, detail = p_answer.message;
  end if;
  return p_answer.rows;
end
$$;

comment on function router.rows_or_refusal(integer, record) is 'The rows of an answer of a node. A refusal is raised.';

create or replace function router.ask(p_node integer, p_function text, p_arguments jsonb)
returns json
language sql
as $$
  select router.rows_or_refusal(p_node, a) from router.answer(p_node, p_function, p_arguments) a
$$;

comment on function router.ask(integer, text, jsonb) is 'The rows of a function on a node, for the caller. Its refusal is raised.';

create or replace function router.ask_as_service(p_node integer, p_function text, p_arguments jsonb)
returns json
language sql
as $$
  select router.rows_or_refusal(p_node, a) from router.try_call(p_node, 'lastpair_service', p_function, p_arguments) a
$$;

comment on function router.ask_as_service(integer, text, jsonb) is 'The rows of a function on a node, for the router itself.';

create or replace function router.ask_first(p_function text, p_arguments jsonb)
returns json
language plpgsql
as $$
declare
  v_nodes integer[] := router.all_nodes();
  v_node integer;
  v record;
begin
  foreach v_node in array v_nodes loop
    select * into strict v from router.answer(v_node, p_function, p_arguments);
    if not v.is_away then
      return router.rows_or_refusal(v_node, v);
    end if;
  end loop;
  perform router.refuse_away(v_nodes);
end
$$;

comment on function router.ask_first(text, jsonb) is 'The rows of a function on the first node that can be reached.';

create or replace function router.ids_in(p_arguments jsonb)
returns uuid[]
language sql immutable
as $$
  select array(
    select distinct a.value::uuid from jsonb_each_text(p_arguments) a
    where jsonb_typeof(p_arguments -> a.key) = 'string' and a.value ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
  )
$$;

comment on function router.ids_in(jsonb) is 'The ids among the arguments of a call.';


-- Several nodes ---------------------------------------------------------------------------------------------------------------

create or replace function router.note_incomplete(p_away integer[])
returns void
language plpgsql
as $$
begin
  if p_away <> '{}' then
    perform set_config('lastpair.incomplete', router.names_of(p_away), true);
    raise warning '%', router.away_sentence(p_away) using hint = 'The rows are those of the other nodes.';
  elsif coalesce(current_setting('lastpair.incomplete', true), '') <> '' then
    perform set_config('lastpair.incomplete', '', true);
  end if;
end
$$;

comment on function router.note_incomplete(integer[]) is
'Say in the setting lastpair.incomplete, and to psql in a warning, which nodes a list lacks.';

-- AUTH_REQUIRED of a node means that the user has nothing there. It is raised only if every node says so.
create or replace function router.ask_all(
  p_function text, p_arguments jsonb, p_other_node integer default null, p_other_arguments jsonb default null
)
returns table (node integer, rows json)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_nodes integer[] := router.all_nodes();
  v_role text := router.caller_role(p_function);
  v_away integer[] := '{}';
  v_is_known boolean := false;
  v_is_unknown boolean := false;
  v_is_of_another boolean := false; -- a page comes after a row of a node on which the user never acted
  v record;
begin
  foreach node in array v_nodes loop
    select * into strict v
    from router.try_call(node, v_role, p_function, case when node = p_other_node then p_other_arguments else p_arguments end);
    if v.is_away then
      v_away := v_away || node;
    elsif v.code = 'AUTH_REQUIRED' then
      v_is_unknown := true;
      v_is_of_another := v_is_of_another or node = p_other_node;
    elsif v.code is not null then
      raise exception using errcode = 'PT' || v.status, message = v.code, detail = v.message;
    else
      v_is_known := true;
      rows := v.rows;
      return next;
    end if;
  end loop;
  if v_is_unknown and not v_is_known and v_away = '{}' then
    perform router.refuse('AUTH_REQUIRED');
  elsif v_is_of_another then
    perform router.refuse('VALIDATION_ERROR', 'cursor: is not of this list; begin again without one');
  end if;
  perform router.note_incomplete(v_away);
end
$$;

comment on function router.ask_all(text, jsonb, integer, jsonb) is
'The rows of a function on each node that can be reached, in the order in which they joined; lastpair.incomplete names the others.
One node may get other arguments.';

create or replace function router.together(p_pages json[])
returns json
language sql immutable
as $$
  select coalesce(json_agg(e.value order by p.n, e.n), '[]')
  from unnest(p_pages) with ordinality as p (page, n)
  cross join lateral json_array_elements(p.page) with ordinality as e (value, n)
$$;

comment on function router.together(json[]) is 'JSON arrays as one.';

-- A page comes after a row of one node, which looks it up. The others are told its place in the list, because they do not have it.
create or replace function router.page(p_function text, p_arguments jsonb)
returns json
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_after uuid := p_arguments ->> 'p_after';
  v_node integer;
  v_at json;
begin
  if v_after is not null and p_arguments ->> 'p_after_at' is null then
    v_node := router.node_of(v_after);
    v_at := router.ask_as_service(v_node, 'cursor_time', jsonb_build_object('p_list', p_function, 'p_id', v_after)) -> 0;
  end if;
  return router.together(array(
    select a.rows
    from router.ask_all(
      p_function, case when v_node is null then p_arguments else p_arguments || jsonb_build_object('p_after_at', v_at) end,
      v_node, p_arguments) a));
end
$$;

comment on function router.page(text, jsonb) is
'One page of a list of each node, as one JSON array that is still to be sorted and cut.';

-- Each node gets its own requests in one call and answers them in their order. If a node is away, its requests get that as their
-- outcome. If all requests are for one node, an error of the call is raised, as on a single database; otherwise it is the
-- outcome of the requests of that node, because others have been carried out.
create or replace function router.batch(p_function text, p_arguments jsonb, p_ids uuid[])
returns setof api.outcome
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_nodes integer[] := array(select router.node_of(i.id) from unnest(p_ids) with ordinality as i (id, n) order by i.n);
  v_requests jsonb := p_arguments -> 'p_requests';
  v_outcomes api.outcome[] := '{}';
  v_node integer;
  v_places integer[];
begin
  if v_nodes = '{}' then
    return query
    select o.* from json_populate_recordset(null::api.outcome, router.ask((router.all_nodes())[1], p_function, p_arguments)) o;
  elsif v_nodes[1] = all (v_nodes) then
    return query select o.* from router.batch_of_node(v_nodes[1], p_function, p_arguments, true) o order by o.n;
  else
    for v_node, v_places in
      select n.node, array_agg(n.place::integer order by n.place) from unnest(v_nodes) with ordinality as n (node, place)
      group by n.node order by n.node
    loop
      v_outcomes := v_outcomes || array(
        select row(v_places[o.n], o.status, o.code, o.message, o.replayed, o.data)::api.outcome
        from router.batch_of_node(
          v_node, p_function,
          p_arguments || jsonb_build_object(
            'p_requests', (select jsonb_agg(v_requests -> p.place - 1 order by p.n) from unnest(v_places) with ordinality as p (place, n))),
          false) o);
    end loop;
    return query select o.* from unnest(v_outcomes) o order by o.n;
  end if;
end
$$;

comment on function router.batch(text, jsonb, uuid[]) is
'The outcomes of a batch, in the order of its requests; the request in place n is carried out on the node of id n.';

create or replace function router.batch_of_node(p_node integer, p_function text, p_arguments jsonb, p_is_raised boolean, p_is_repeated boolean default false)
returns setof api.outcome
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_users uuid[];
  v_requests jsonb := p_arguments -> 'p_requests';
  v_outcomes api.outcome[];
  v_again integer[];
  v record;
begin
  -- The request that comes first gets the last units, so the node has to know all users of a batch before it begins.
  if not p_is_repeated and jsonb_array_length(v_requests) > 1 then
    v_users := array(
      select distinct (r.value ->> 'user_id')::uuid from jsonb_array_elements(v_requests) r where r.value ->> 'user_id' is not null);
    select * into strict v
    from router.try_call(p_node, 'lastpair_service', 'names_of', jsonb_build_object('p_user_ids', v_users));
    if not v.is_away then
      v_users := array(
        select u from unnest(v_users) u
        where not exists (select from json_array_elements(v.rows) r where (r.value ->> 'user_id')::uuid = u));
      if v_users <> '{}' then
        perform router.copy_users(p_node, v_users);
      end if;
    end if;
  end if;
  begin
    select * into strict v from router.try_call(p_node, router.caller_role(p_function), p_function, p_arguments);
  exception when others then
    if p_is_raised then
      raise;
    end if;
    select false as is_away, 503 as status, 'DATABASE_UNAVAILABLE' as code,
      format('Node %s could not carry this out. Try again in a moment.', p_node) as message
    into v;
  end;
  if v.is_away then
    v.status := 503;
    v.code := 'DATABASE_UNAVAILABLE';
    v.message := router.away_sentence(array[p_node]);
  elsif v.code is not null and p_is_raised then
    raise exception using errcode = 'PT' || v.status, message = v.code, detail = v.message;
  end if;
  if v.code is not null then
    return query
    select n, v.status, v.code, v.message, false, null::json from generate_series(1, jsonb_array_length(v_requests)) n;
    return;
  end if;
  v_outcomes := array(select o from json_populate_recordset(null::api.outcome, v.rows) o);
  v_again := array(select o.n from unnest(v_outcomes) o where o.code = 'AUTH_REQUIRED');
  if v_again <> '{}' and not p_is_repeated then
    if router.copy_users(p_node, array(select (v_requests -> a.n - 1 ->> 'user_id')::uuid from unnest(v_again) a (n))) then
      return query select o.* from unnest(v_outcomes) o where o.n <> all (v_again);
      return query
      select v_again[o.n], o.status, o.code, o.message, o.replayed, o.data
      from router.batch_of_node(
        p_node, p_function,
        p_arguments || jsonb_build_object(
          'p_requests', (select jsonb_agg(v_requests -> a.place - 1 order by a.n) from unnest(v_again) with ordinality as a (place, n))),
        p_is_raised, true) o;
      return;
    end if;
  end if;
  return query select o.* from unnest(v_outcomes) o;
end
$$;

comment on function router.batch_of_node(integer, text, jsonb, boolean, boolean) is 'The outcomes of the requests of a batch that are for one node.';
