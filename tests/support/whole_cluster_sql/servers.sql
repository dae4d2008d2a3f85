-- Sessions and locks of the nodes and of the router together. The search path of the owner has this schema first.
create schema servers;

create view servers.pg_stat_activity as
select datname, pid, usename, application_name, xact_start, query_start, wait_event_type, wait_event, state, query, backend_type
from pg_catalog.pg_stat_activity
union all select * from data_0.pg_stat_activity
union all select * from data_1.pg_stat_activity;

create view servers.pg_stat_database as
select datname, sum(deadlocks)::bigint as deadlocks
from (
  select datname, deadlocks from pg_catalog.pg_stat_database
  union all select * from data_0.pg_stat_database
  union all select * from data_1.pg_stat_database
) s
group by datname;

-- All servers are on one machine, so a process id says which one it is.
create function servers.pg_terminate_backend(p_pid integer, p_timeout bigint default 0)
returns boolean
language plpgsql
as $$
declare
  v_node integer;
begin
  if exists (select from pg_catalog.pg_stat_activity where pid = p_pid) then
    return pg_catalog.pg_terminate_backend(p_pid, p_timeout);
  end if;
  foreach v_node in array array[0, 1] loop
    if exists (select from dblink('data_' || v_node, format(
      'select pg_terminate_backend(pid, %s) from pg_stat_activity where pid = %s', p_timeout, p_pid)) as found (is_told boolean)) then
      return true;
    end if;
  end loop;
  return false;
end
$$;
