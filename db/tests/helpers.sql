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
