-- api.relayed_events_after: what the relay reads: the events after this one, public and private, oldest first, at most p_limit.
--
-- Purpose: the relay of a process hands each event to the streams that it is for, so it gets those of all users. `user_id` says for
-- whom an event is; null: for everybody. Only the service may call it. The answer is otherwise that of api.events_after.
--
-- Locks: none. Errors: VALIDATION_ERROR (p_limit).

create or replace function api.relayed_events_after(p_after bigint, p_limit integer)
returns table (type text, id text, drop_id uuid, user_id uuid, data json)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return query select * from inventory.logged_events(p_after, p_limit, null, null, true);
end
$$;

comment on function api.relayed_events_after(bigint, integer) is
'The events after event p_after of all drops and users, oldest first, at most p_limit; after null: the latest ones. For the relay.';
