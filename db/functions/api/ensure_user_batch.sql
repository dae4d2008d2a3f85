-- api.ensure_user_batch: the users with these ids, those that are missing made now: one outcome per request.
--
-- Purpose: when a crowd comes for the first time, one commit for many new users keeps up with it.
--
-- Locks: those of api.ensure_user for each user, in the order of the names; they are held until the end. Two calls can still take
-- locks in different orders, because a user has a name and an id. Therefore a call for several users waits for no lock longer
-- than 100 ms, which is before PostgreSQL looks for a deadlock.
--
-- Errors: VALIDATION_ERROR (a name or an id); with several users lock_not_available (55P03) after 100 ms at a lock. In both cases
-- no user is made. After 55P03 the service makes the users one by one. This batch raises a refusal, unlike the other batches,
-- because an outcome would need one more subtransaction for each user. That took 1.4 times as long, because PostgreSQL keeps only
-- 64 subtransactions of a session in shared memory.

create or replace function api.ensure_user_batch(p_requests api.user_request[])
returns setof api.outcome
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_user_ids uuid[] := array(select q.user_id from unnest(p_requests) q);
  v_lock_timeout text := current_setting('lock_timeout');
  v_request record;
  v_user api."user";
  v_was_there boolean;
  v_made_ids uuid[] := '{}';
  v_outcomes api.outcome[];
begin
  if (v_user_ids[1] = all (v_user_ids)) is not true then
    perform set_config('lock_timeout', '100ms', true);
  end if;
  for v_request in
    select q.ordinality::integer as n, q.user_id, q.username, known.id is not null as is_known
    from unnest(p_requests) with ordinality q
    left join lateral (
      select u.id from inventory.users u where u.id = q.user_id limit 1
    ) known on true
    order by coalesce(q.username, q.user_id::text), q.user_id, q.ordinality
  loop
    select * into v_user from api.ensure_user(v_request.user_id, v_request.username);
    -- If another transaction has made the user meanwhile, the time is another one.
    v_was_there := v_request.is_known or v_user.id = any (v_made_ids) or v_user."createdAt" <> now();
    if not v_was_there then
      v_made_ids := v_made_ids || v_user.id;
    end if;
    v_outcomes := v_outcomes
      || row(v_request.n, case when v_was_there then 200 else 201 end, null, null, false, to_json(v_user))::api.outcome;
  end loop;
  perform set_config('lock_timeout', v_lock_timeout, true);
  return query select o.* from unnest(v_outcomes) o order by o.n;
end
$$;

comment on function api.ensure_user_batch(api.user_request[]) is
'The users with these ids, each made now if it is missing (as api.ensure_user does). The answer has one row a request: n is its
place in p_requests, status 201 if the user was made, 200 if it was there. A name that is not acceptable is raised and no user is
made. With several users no lock is waited for longer than 100 ms (55P03).
select * from api.ensure_user_batch(array[row(''<user>'', ''ann''), row(''<user>'', null)]::api.user_request[]);';
