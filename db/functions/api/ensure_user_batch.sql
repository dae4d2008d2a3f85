-- api.ensure_user_batch: the users with these ids, those that are missing made now: one outcome a request, nothing raised for a
-- refusal.
--
-- Purpose: when a crowd comes for the first time, one commit for many new users keeps up with it.
--
-- Locks: those of api.ensure_user for each user, in the order of the names and so mostly in the same order in every call; they
-- are held until the end. With several users no lock is waited for longer than 100 ms, which is before PostgreSQL looks for a
-- deadlock: two calls whose names and ids cross would be one. Errors: with several users lock_not_available (55P03) after 100
-- ms at a lock. Then nobody is made, and the caller makes them one by one. Code of a refusal: VALIDATION_ERROR, for the request
-- whose name or id is not acceptable.
--
-- A user who is made takes two subtransactions: one here, for a refusal, and one in api.ensure_user. PostgreSQL keeps 64 of a
-- session in shared memory; a call with more than 32 new users works, but makes other sessions' snapshots slower.

create or replace function api.ensure_user_batch(p_requests api.user_request[])
returns setof api.outcome
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_lock_timeout text := current_setting('lock_timeout');
  v_request record;
  v_user api."user";
  v_existed boolean;
  v_message text;
  v_outcomes api.outcome[];
begin
  perform inventory.limit_lock_waits(array(select q.user_id from unnest(p_requests) q));
  for v_request in
    select q.ordinality::integer as n, q.user_id, q.username
    from unnest(p_requests) with ordinality q
    order by coalesce(q.username, q.user_id::text), q.user_id, q.ordinality
  loop
    v_existed := exists (select from inventory.users u where u.id = v_request.user_id);
    begin
      select * into strict v_user from api.ensure_user(v_request.user_id, v_request.username);
      v_outcomes := v_outcomes || row(
        v_request.n, case when v_existed then 200 else 201 end, null, null, false, to_json(v_user))::api.outcome;
    exception when sqlstate 'PT400' then
      get stacked diagnostics v_message = pg_exception_detail;
      v_outcomes := v_outcomes || row(v_request.n, 400, sqlerrm, v_message, false, null)::api.outcome;
    end;
  end loop;
  perform set_config('lock_timeout', v_lock_timeout, true);
  return query select o.* from unnest(v_outcomes) o order by o.n;
end
$$;

comment on function api.ensure_user_batch(api.user_request[]) is
'The users with these ids, each made now if it is missing (as api.ensure_user does). The answer has one row a request: n is its
place in p_requests, status 201 if the user was made, 200 if it was there. With several users no lock is waited for longer than
100 ms (55P03).
select * from api.ensure_user_batch(array[row(''<user>'', ''ann''), row(''<user>'', null)]::api.user_request[]);';

-- Superseded in 0.2; a process of 0.1 calls it during a rolling deployment. Remove it in 0.3.
create or replace function api.ensure_user_batch(p_user_ids uuid[], p_usernames text[])
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_message text;
begin
  select o.message into v_message
  from api.ensure_user_batch(
    array(
      select row(q.user_id, q.username)::api.user_request
      from unnest(p_user_ids, p_usernames) with ordinality as q (user_id, username, n)
      order by q.n
    )) o
  where o.code is not null
  limit 1;
  if found then -- one refusal takes everything back, as it did in 0.1
    perform inventory.refuse('VALIDATION_ERROR', v_message);
  end if;
end
$$;

comment on function api.ensure_user_batch(uuid[], text[]) is
'Superseded in 0.2 by api.ensure_user_batch(api.user_request[]); removed in 0.3.';
