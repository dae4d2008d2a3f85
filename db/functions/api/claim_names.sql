-- api.claim_names: claim usernames in the register of this node. A claim is granted if nobody else has such a name here.
--
-- Purpose: a username is unique over all nodes of a router, although a user is known on some of them only. One node keeps the register
-- of a name; the hash of the name picks the node. A user who is known here may have the name from the time before there was a register,
-- so users count, too. A claim is kept until api.release_name. A user may claim a name again, and has what was granted.
--
-- Without a name it is the default name of api.ensure_user. Of two users in a call who claim the same, the first has it. n is the place
-- in p_requests; the rows come in the order of the names.
--
-- Locks: the names, in their order. It waits for a transaction that claims the same name.
-- Errors: VALIDATION_ERROR: a name is too long, or nothing of it can be seen, or a user is null. Then nothing is claimed. What else a
-- username must be, the node of the user checks.

create or replace function api.claim_names(p_requests api.user_request[])
returns table (n integer, is_granted boolean)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_column
declare
  v_request record;
  v_owner_id uuid;
begin
  for v_request in
    select q.ordinality::integer as n, q.user_id, named.name, inventory.name_key(named.name) as key
    from unnest(p_requests) with ordinality q
    cross join lateral (select coalesce(q.username, 'user-' || left(q.user_id::text, 8)) as name) named
    order by key, q.ordinality
  loop
    if v_request.user_id is null then
      perform inventory.refuse('VALIDATION_ERROR', 'p_user_id: is required');
    elsif char_length(v_request.name) > 200 or v_request.key = '' then
      perform inventory.refuse_constraint('users_username_check');
    end if;
    select u.id into v_owner_id from inventory.users u where inventory.name_key(u.username) = v_request.key;
    if v_owner_id is null or v_owner_id = v_request.user_id then
      insert into inventory.registered_names (name_key, user_id) values (v_request.key, v_request.user_id)
      on conflict (name_key) do nothing;
      select r.user_id into v_owner_id from inventory.registered_names r where r.name_key = v_request.key;
    end if;
    return query select v_request.n, coalesce(v_owner_id = v_request.user_id, false);
  end loop;
end
$$;

comment on function api.claim_names(api.user_request[]) is
'For a router: claim usernames in the register of this node. is_granted: nobody else has such a name here. A repeated claim is
answered in the same way.';
