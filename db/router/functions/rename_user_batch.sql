-- api.rename_user_batch: give users new names on every node on which they are known, after claiming them.
--
-- A user who was forgotten on any node is not renamed. A user has the name already if it is the same, or the same with a suffix, on
-- every node. If a node is away nothing is done, because the user may have the old name there; it can be repeated.

create or replace function api.rename_user_batch(p_requests api.user_request[])
returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_known jsonb;
  v_new api.user_request[];
  v_granted boolean[];
  v_named api.user_request[];
  v_node integer;
begin
  perform router.refuse_block();
  select coalesce(jsonb_agg(to_jsonb(k)), '[]') into v_known
  from router.known_users(array(select distinct q.user_id from unnest(p_requests) q where q.user_id is not null)) k;
  select coalesce(array_agg(row(w.user_id, w.name)::api.user_request order by w.user_id), '{}') into v_new
  from (
    select distinct on (q.user_id) q.user_id, normalize(q.username, NFC) as name, k.usernames
    from unnest(p_requests) with ordinality as q (user_id, username, n)
    join (
      select (e ->> 'user_id')::uuid as user_id, array_agg(e ->> 'username') as usernames
      from jsonb_array_elements(v_known) e
      group by 1
      having not bool_or((e ->> 'is_forgotten')::boolean)
    ) k on k.user_id = q.user_id
    where q.username is not null
    order by q.user_id, q.n desc
  ) w
  where exists (
    select from unnest(w.usernames) as h (name)
    where h.name <> w.name and not (left(h.name, -9) = left(w.name, 190) and right(h.name, 9) ~ '^-[0-9a-f]{8}$'));
  if v_new = '{}' then
    return 0;
  end if;
  perform router.require_all();
  -- A name that no user may have is the node's to refuse. With a suffix it would be one.
  perform router.ask((e ->> 'node')::integer, 'rename_user_batch', jsonb_build_object('p_requests', jsonb_build_array(to_jsonb(u))))
  from unnest(v_new) as u
  join jsonb_array_elements(v_known) e on (e ->> 'user_id')::uuid = u.user_id
  where char_length(u.username) not between 1 and 200 or coalesce(router.name_key(u.username), '') = '';
  v_granted := router.claim_names(v_new, false);
  v_named := array(
    select row(u.user_id, case when v_granted[u.n] then u.username else router.with_suffix(u.username) end)::api.user_request
    from unnest(v_new) with ordinality as u (user_id, username, n) order by u.n);
  for v_node in select distinct (e ->> 'node')::integer from jsonb_array_elements(v_known) e order by 1 loop
    perform router.ask(v_node, 'rename_user_batch', jsonb_build_object('p_requests', to_jsonb(v_named)));
  end loop;
  perform router.release_name(m.user_id, o.username)
  from unnest(v_named) m
  join (select distinct (e ->> 'user_id')::uuid, e ->> 'username' from jsonb_array_elements(v_known) e) as o (user_id, username)
    on o.user_id = m.user_id
  where router.name_key(o.username) <> router.name_key(m.username);
  return cardinality(v_new);
end
$$;

comment on function api.rename_user_batch(api.user_request[]) is
'Give users the names that they have elsewhere now, and return how many were renamed. A name that is taken gets a suffix; a user who
was forgotten keeps the name that says nothing. With several users no lock is waited for longer than 100 ms (55P03).
select api.rename_user_batch(array[row(''<user>'', ''ann'')]::api.user_request[]);';
