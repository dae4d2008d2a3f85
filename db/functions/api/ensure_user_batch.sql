-- api.ensure_user_batch: the users with these ids, those that are missing made now.
--
-- Purpose: a crowd that was never here comes at once, and one commit for many of them is what keeps up with it.
--
-- Locks: those of api.ensure_user for each user, in the order of their names and so mostly the same in every call; they are held
-- until the end. Several users therefore wait no longer than 100 ms for another transaction that makes one of them or takes one of
-- the names: long before PostgreSQL looks for a deadlock, which two calls with names and ids crosswise would be.
-- Errors: VALIDATION_ERROR; with several users lock_not_available (55P03), and nobody is made; make them one by one then.

create or replace function api.ensure_user_batch(p_user_ids uuid[], p_usernames text[])
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_request record;
  v_lock_timeout text := current_setting('lock_timeout');
begin
  if (select count(distinct u.id) from unnest(p_user_ids) as u (id)) > 1 then
    perform set_config('lock_timeout', '100ms', true);
  end if;
  for v_request in
    select q.user_id, q.username
    from unnest(p_user_ids, p_usernames) as q (user_id, username)
    order by coalesce(q.username, q.user_id::text), q.user_id
  loop
    perform api.ensure_user(v_request.user_id, v_request.username);
  end loop;
  perform set_config('lock_timeout', v_lock_timeout, true);
end
$$;

comment on function api.ensure_user_batch(uuid[], text[]) is
'The users with these ids, each made now if it is missing, user n named p_usernames[n] (as api.ensure_user does). Of several, waits no
longer than 100 ms for a lock (55P03).';
