-- Users on a router: a user is known on each node on which the user has acted, with the same id and the same name.
--
-- The register of names. A name is claimed on one node of the first 1, of the first 2, … of all nodes, which its key picks, oldest set
-- first. So a node that joins needs no names of others: a call that claims a name later asks each node on which it can have been
-- claimed before. The users of the time before the router are on the first node, which is always asked. If a node of the register is away,
-- the user gets a name with a suffix, which needs no register.

create or replace function router.registers_of(p_username text)
returns integer[]
language sql stable
as $$
  select array(
    select n.node
    from (
      select
        router.all_nodes() as nodes, ('x' || left(md5(router.name_key(normalize(p_username, NFC))), 7))::bit(28)::integer as hash
    ) h
    cross join lateral (
      select h.nodes[h.hash % size + 1] as node, min(size) as first_size
      from generate_series(1, cardinality(h.nodes)) as size
      group by 1
    ) n
    order by n.first_size
  )
$$;

comment on function router.registers_of(text) is 'The nodes on which this username is claimed, in that order.';

create or replace function router.with_suffix(p_username text)
returns text
language sql volatile
as $$
  select left(normalize(coalesce(p_username, 'user'), NFC), 190) || '-' || substr(md5(gen_random_uuid()::text), 1, 8)
$$;

comment on function router.with_suffix(text) is 'A name that is unique without being claimed, as api.ensure_user makes it.';

-- Claims are made for all requests of a call together: one call of each node of the register.
create or replace function router.claim_names(p_requests api.user_request[], p_is_raised boolean)
returns boolean[]
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_granted boolean[] := array_fill(true, array[cardinality(p_requests)]);
  v_asked integer[];
  v_node integer;
  v record;
begin
  foreach v_node in array router.all_nodes() loop
    v_asked := array(
      select q.n::integer
      from unnest(p_requests) with ordinality as q (user_id, username, n)
      where v_granted[q.n] and v_node = any (router.registers_of(q.username))
      order by q.n);
    continue when v_asked = '{}';
    select * into strict v
    from router.try_call(v_node, 'lastpair_service', 'claim_names', jsonb_build_object(
      'p_requests', (select jsonb_agg(to_jsonb(p_requests[a.n]) order by a.place) from unnest(v_asked) with ordinality as a (n, place))));
    if v.is_away and p_is_raised then
      perform router.refuse_away(array[v_node]);
    elsif v.is_away or v.code is not null then
      v_granted := array(select g.ok and g.n <> all (v_asked) from unnest(v_granted) with ordinality as g (ok, n) order by g.n);
    else
      v_granted := array(
        select g.ok and coalesce(c.is_granted, true)
        from unnest(v_granted) with ordinality as g (ok, n)
        left join (
          select v_asked[r.n] as n, r.is_granted from json_to_recordset(v.rows) as r (n integer, is_granted boolean)
        ) c on c.n = g.n
        order by g.n);
    end if;
  end loop;
  perform router.release_name(q.user_id, q.username)
  from unnest(p_requests) with ordinality as q (user_id, username, n)
  where not v_granted[q.n];
  return v_granted;
end
$$;

comment on function router.claim_names(api.user_request[], boolean) is
'Which of these names their users have now: true for each that nobody else has on any node of the register.';

create or replace function router.release_name(p_user_id uuid, p_username text)
returns void
language plpgsql
as $$
declare
  v_node integer;
begin
  foreach v_node in array router.registers_of(p_username) loop
    perform router.try_call(
      v_node, 'lastpair_service', 'release_name', jsonb_build_object('p_user_id', p_user_id, 'p_username', p_username));
  end loop;
end
$$;

comment on function router.release_name(uuid, text) is 'Give back a name that this user has in the register, if it is there.';

create or replace function router.known_users(p_user_ids uuid[], p_but integer default null)
returns table (node integer, user_id uuid, username text, is_forgotten boolean)
language plpgsql
as $$
#variable_conflict use_column
declare
  v_node integer;
  v record;
begin
  foreach v_node in array router.all_nodes() loop
    continue when v_node = p_but;
    select * into strict v
    from router.try_call(v_node, 'lastpair_service', 'names_of', jsonb_build_object('p_user_ids', p_user_ids));
    if not v.is_away then
      return query
      select v_node, r.user_id, r.username, r.is_forgotten
      from json_to_recordset(v.rows) as r (user_id uuid, username text, is_forgotten boolean);
    end if;
  end loop;
end
$$;

comment on function router.known_users(uuid[], integer) is
'Which of these users are known on which node, all nodes that can be reached except p_but.';

create or replace function router.copy_users(p_node integer, p_user_ids uuid[])
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_users jsonb;
begin
  select jsonb_agg(jsonb_build_object('user_id', u.user_id, 'username', u.username) order by u.username) into v_users
  from (select distinct on (k.user_id) k.user_id, k.username from router.known_users(p_user_ids, p_node) k) u;
  if v_users is null then
    return false;
  end if;
  perform router.ask_as_service(p_node, 'ensure_user_batch', jsonb_build_object('p_requests', v_users));
  return true;
end
$$;

comment on function router.copy_users(integer, uuid[]) is
'Make those of these users on a node who are known on another one, under the same name. Returns whether there are any.';

create or replace function router.ensure_users(p_node integer, p_requests api.user_request[])
returns setof api.outcome
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_ids uuid[] := array(select distinct q.user_id from unnest(p_requests) q where q.user_id is not null);
  v_here uuid[];
  v_elsewhere jsonb;
  v_new api.user_request[];
  v_granted boolean[];
  v_names jsonb := '{}';
begin
  perform router.refuse_block();
  v_here := array(
    select (r ->> 'user_id')::uuid
    from json_array_elements(router.ask_as_service(p_node, 'names_of', jsonb_build_object('p_user_ids', v_ids))) r);
  if not v_ids <@ v_here then
    select coalesce(jsonb_object_agg(k.user_id, k.username), '{}') into v_elsewhere
    from router.known_users(array(select i from unnest(v_ids) i where i <> all (v_here)), p_node) k;
    v_new := array(
      select row(u.user_id, u.username)::api.user_request
      from (
        select distinct on (q.user_id)
          q.user_id, normalize(coalesce(q.username, 'user-' || left(q.user_id::text, 8)), NFC) as username
        from unnest(p_requests) with ordinality as q (user_id, username, n)
        where q.user_id <> all (v_here) and not v_elsewhere ? q.user_id::text
        order by q.user_id, q.n
      ) u
      -- A name that no user may have is the node's to refuse.
      where char_length(u.username) between 1 and 200 and coalesce(router.name_key(u.username), '') <> ''
      order by u.user_id
    );
    v_granted := router.claim_names(v_new, false);
    select coalesce(jsonb_object_agg(u.user_id, case when v_granted[u.n] then u.username else router.with_suffix(u.username) end), '{}')
    into v_names
    from unnest(v_new) with ordinality as u (user_id, username, n);
    v_names := v_elsewhere || v_names;
  end if;
  return query
  select o.*
  from json_populate_recordset(null::api.outcome, router.ask_as_service(p_node, 'ensure_user_batch', jsonb_build_object(
    'p_requests', (
      select jsonb_agg(jsonb_build_object('user_id', q.user_id, 'username', coalesce(v_names ->> q.user_id::text, q.username)) order by q.n)
      from unnest(p_requests) with ordinality as q (user_id, username, n))))) o
  order by o.n;
end
$$;

comment on function router.ensure_users(integer, api.user_request[]) is
'What api.ensure_user_batch is on a single database, for users who act on node p_node: each has the same id and the same name on
every node. A new name is claimed first, and gets a suffix if another user has it.';

-- A user who acts nowhere in particular is made on the node of the id, or on the next one if that is away.
create or replace function router.node_of_user(p_user_id uuid)
returns integer
language plpgsql
as $$
declare
  v_home integer := router.node_of(p_user_id);
  v_node integer;
  v record;
begin
  for v_node in select n from unnest(router.all_nodes()) with ordinality as u (n, place) order by n <> v_home, place loop
    select * into strict v from router.try_call(v_node, 'lastpair_service', 'node', '{}');
    if not v.is_away then
      return v_node;
    end if;
  end loop;
  return v_home;
end
$$;

comment on function router.node_of_user(uuid) is 'The node on which a user is made who acts nowhere in particular.';

-- A repeated request must find the node again: it is the one that the key picks, or another one that has noted the key, because nodes
-- have joined or drain since. If a node is away that may have noted it, the request is refused.
create or replace function router.node_of_key(p_user_id uuid, p_key text)
returns integer
language plpgsql
as $$
declare
  c_kept constant interval := '2 days';
  v_picked integer := (
    select n.number from router.nodes n
    order by n.is_draining or n.drops_from > now(), md5(concat_ws(' ', p_key, p_user_id, n.number)) desc limit 1);
  v_node integer;
  v record;
begin
  foreach v_node in array array_remove(router.all_nodes(), v_picked) loop
    select * into strict v
    from router.try_call(
      v_node, 'lastpair_service', 'has_idempotency_key', jsonb_build_object('p_user_id', p_user_id, 'p_key', p_key));
    if not v.is_away and (v.rows ->> 0)::boolean then
      return v_node;
    elsif v.is_away and exists (select from router.nodes n where n.changed_at > now() - c_kept) then
      perform router.refuse_away(array[v_node]);
    end if;
  end loop;
  return v_picked;
end
$$;

comment on function router.node_of_key(uuid, text) is 'The node for a request that makes a row and has this Idempotency-Key.';

create or replace function router.node_for_drop(p_user_id uuid, p_key text)
returns integer
language plpgsql
as $$
declare
  v_nodes integer[] := array(
    select n.number::integer from router.nodes n where not n.is_draining and n.drops_from <= now() order by n.joined_at, n.number);
  v_best integer;
  v_least bigint;
  v_node integer;
  v record;
begin
  if p_key is not null then
    v_node := router.node_of_key(p_user_id, p_key);
    if v_nodes <> '{}' or (router.ask_as_service(v_node, 'has_idempotency_key', jsonb_build_object('p_user_id', p_user_id, 'p_key', p_key)) ->> 0)::boolean then
      return v_node;
    end if;
  end if;
  if v_nodes = '{}' then
    raise sqlstate 'PT503' using
      message = 'DATABASE_UNAVAILABLE',
      detail = 'Every node is being drained, or has just joined, so a new drop has nowhere to go. Try again in a moment.';
  end if;
  foreach v_node in array v_nodes loop
    select * into strict v from router.try_call(v_node, 'lastpair_service', 'load', '{}');
    if not v.is_away and (v_best is null or (v.rows ->> 0)::bigint < v_least or (v.rows ->> 0)::bigint = v_least and random() < 0.5) then
      v_best := v_node;
      v_least := v.rows ->> 0;
    end if;
  end loop;
  if v_best is null then
    perform router.refuse_away(v_nodes);
  end if;
  return v_best;
end
$$;

comment on function router.node_for_drop(uuid, text) is
'Where a new drop goes: to the node with the fewest live units of those that are not draining and not away.';

create or replace function router.everywhere(p_function text, p_arguments jsonb)
returns json
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_away integer[] := '{}';
  v_rows json;
  v_node integer;
  v record;
begin
  foreach v_node in array router.all_nodes() loop
    select * into strict v from router.answer(v_node, p_function, p_arguments);
    if v.is_away then
      v_away := v_away || v_node;
    elsif v_rows is null then
      v_rows := router.rows_or_refusal(v_node, v);
    end if;
  end loop;
  if v_away <> '{}' then
    perform router.refuse_away(v_away);
  end if;
  return v_rows;
end
$$;

comment on function router.everywhere(text, jsonb) is
'Do something on every node; the rows of the first one. If a node is away, it is done on the others, and that is raised.';

create or replace function router.require_all()
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_away integer[] := '{}';
  v_node integer;
  v record;
begin
  foreach v_node in array router.all_nodes() loop
    select * into strict v from router.try_call(v_node, 'lastpair_service', 'node', '{}');
    if v.is_away then
      v_away := v_away || v_node;
    end if;
  end loop;
  if v_away <> '{}' then
    perform router.refuse_away(v_away);
  end if;
end
$$;

comment on function router.require_all() is 'Raise DATABASE_UNAVAILABLE if a node is away.';
