-- api.rename_user_batch: give users the names that they have at the identity provider now. Returns how many were renamed.
--
-- A user who does not exist, who was forgotten, or who has the name already stays as it is. As in api.ensure_user a name that another
-- user has gets a suffix, and a user with such a suffix has the name.
--
-- Locks: the rows of the users who are renamed, in the order of their ids. It waits for a transaction that takes the same name. Two
-- calls may take names in opposite orders, so a call for several users waits for no lock longer than 100 ms.
-- Errors: FORBIDDEN (a buyer or seller names another user), VALIDATION_ERROR (a name); with several users lock_not_available (55P03)
-- after 100 ms at a lock. Then no user is renamed.

create or replace function api.rename_user_batch(p_requests api.user_request[])
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_lock_timeout text := current_setting('lock_timeout');
  v_request record;
  v_constraint_name text;
  v_renamed_count integer := 0;
begin
  if cardinality(p_requests) > 1 then
    perform set_config('lock_timeout', '100ms', true);
  end if;
  for v_request in
    select distinct on (q.user_id) q.user_id, q.name
    from (
      select q.user_id, normalize(q.username, NFC) as name, q.ordinality as n
      from unnest(p_requests) with ordinality q
      where q.username is not null
    ) q
    cross join lateral (
      select u.username, u.forgotten_at from inventory.users u where u.id = q.user_id limit 1
    ) known
    where known.forgotten_at is null
      and known.username <> q.name
      and not (left(known.username, -9) = left(q.name, 190) and right(known.username, 9) ~ '^-[0-9a-f]{8}$')
    order by q.user_id, q.n desc
  loop
    perform inventory.require_self(v_request.user_id);
    for v_try in 1 .. 2 loop
      begin
        update inventory.users u
        set
          username = case
            when v_try = 1 then v_request.name
            else left(v_request.name, 190) || '-' || substr(md5(gen_random_uuid()::text), 1, 8)
          end,
          updated_at = now()
        where u.id = v_request.user_id and u.forgotten_at is null;
        v_renamed_count := v_renamed_count + found::integer;
        exit;
      exception
        when unique_violation then
          null; -- with a suffix, then
        when check_violation then
          get stacked diagnostics v_constraint_name = constraint_name;
          perform inventory.refuse_constraint(v_constraint_name);
      end;
    end loop;
  end loop;
  perform set_config('lock_timeout', v_lock_timeout, true);
  return v_renamed_count;
end
$$;

comment on function api.rename_user_batch(api.user_request[]) is
'Give users the names that they have elsewhere now, and return how many were renamed. A name that is taken gets a suffix; a user who
was forgotten keeps the name that says nothing. With several users no lock is waited for longer than 100 ms (55P03).
select api.rename_user_batch(array[row(''<user>'', ''ann'')]::api.user_request[]);';
