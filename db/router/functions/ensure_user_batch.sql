-- api.ensure_user_batch: each user on the node of the id; router.ensure_users is for users who act on a certain node.

create or replace function api.ensure_user_batch(p_requests api.user_request[])
returns setof api.outcome
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_node integer;
  v_places integer[];
  v_outcomes api.outcome[] := '{}';
begin
  perform router.refuse_block();
  for v_node, v_places in
    select n.node, array_agg(n.place::integer order by n.place)
    from (
      select case when h.node is not null then router.node_of_user(q.user_id) end as node, q.n as place
      from unnest(p_requests) with ordinality as q (user_id, username, n)
      cross join lateral (select router.node_of(q.user_id) as node) h
    ) n
    group by n.node order by n.node
  loop
    v_outcomes := v_outcomes || array(
      select row(v_places[o.n], o.status, o.code, o.message, o.replayed, o.data)::api.outcome
      from router.ensure_users(v_node, array(select p_requests[p.n] from unnest(v_places) with ordinality as p (n, place) order by p.place)) o);
  end loop;
  return query select o.* from unnest(v_outcomes) o order by o.n;
end
$$;

comment on function api.ensure_user_batch(api.user_request[]) is
'The users with these ids, each made now if it is missing (as api.ensure_user does). The answer has one row a request: n is its
place in p_requests, status 201 if the user was made, 200 if it was there. A name that is not acceptable is raised and no user is
made. With several users no lock is waited for longer than 100 ms (55P03).
select * from api.ensure_user_batch(array[row(''<user>'', ''ann''), row(''<user>'', null)]::api.user_request[]);';
