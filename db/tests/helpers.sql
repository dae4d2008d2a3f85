-- What the pgTAP files share, made once in their session: run this first to try one of them in psql.

-- What a statement raises: SQLSTATE, MESSAGE and DETAIL.
create function pg_temp.refusal(p_sql text) returns text language plpgsql as $$
declare
  v_detail text;
begin
  execute p_sql;
  return 'nothing was raised';
exception when others then
  get stacked diagnostics v_detail = pg_exception_detail;
  return format('%s %s: %s', sqlstate, sqlerrm, v_detail);
end
$$;

-- A user's id, made from the name; each file makes the users it needs, and rolls them back.
create function pg_temp.user_id(p_name text) returns uuid language sql immutable as $$ select md5('pgtap ' || p_name)::uuid $$;

-- The ids of these users, in this order.
create function pg_temp.user_ids(variadic p_names text[]) returns uuid[] language sql immutable as $$
  select array_agg(pg_temp.user_id(name) order by n) from unnest(p_names) with ordinality as u (name, n)
$$;

-- The id of the seller's drop of this name.
create function pg_temp.drop_id(p_name text) returns uuid language sql stable as $$
  select d.id from inventory.drops d where d.created_by = pg_temp.user_id('seller') and d.name = p_name
$$;

-- How many units of the seller's drop of this name are available.
create function pg_temp.stock_of(p_name text) returns integer language sql stable as $$
  select d.available_stock from inventory.drops d where d.id = pg_temp.drop_id(p_name)
$$;

-- Make the users of these names; each is called "pgtap ann" and so on, for a username must not be another's.
create function pg_temp.make_users(variadic p_names text[]) returns void language sql as $$
  select api.ensure_user(pg_temp.user_id(name), 'pgtap ' || name) from unnest(p_names) as name
$$;

-- What a statement announces about the seller's drops, as if it were a transaction: "TYPE data" for each event, in order. In data
-- stand, for what cannot be known beforehand: a drop's name for its id, a user's name for his, "hold of ann" for a reservation's,
-- and "now" for this moment.
create function pg_temp.announced(p_sql text) returns text[] language plpgsql as $$
declare
  v_last_id bigint;
  v_events text[];
  v_id text;
  v_name text;
begin
  set constraints all immediate;
  set constraints all deferred;
  v_last_id := (select coalesce(max(e.id), 0) from inventory.events e);
  execute p_sql;
  set constraints all immediate;
  set constraints all deferred;
  v_events := array(
    select replace(e.type || ' ' || e.data, (to_json(now() at time zone 'UTC') #>> '{}') || '+00:00', 'now')
    from inventory.events e
    join inventory.drops d on d.id = e.drop_id and d.created_by = pg_temp.user_id('seller')
    where e.id > v_last_id
    order by e.id
  );
  for v_id, v_name in
    select d.id, d.name from inventory.drops d where d.created_by = pg_temp.user_id('seller')
    union all
    select u.id, substr(u.username, 7)
    from inventory.users u
    where u.username like 'pgtap %' and u.id = pg_temp.user_id(substr(u.username, 7))
    union all
    select r.id, 'hold of ' || substr(u.username, 7)
    from inventory.reservations r
    join inventory.drops d on d.id = r.drop_id and d.created_by = pg_temp.user_id('seller')
    join inventory.users u on u.id = r.user_id
  loop
    v_events := array(select replace(e.event, v_id, v_name) from unnest(v_events) with ordinality as e (event, n) order by e.n);
  end loop;
  return v_events;
end
$$;
