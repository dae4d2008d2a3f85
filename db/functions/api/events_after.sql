-- api.events_after: the events after this one, of all drops or of some, oldest first, at most p_limit; with p_user_id also those
-- that are for this user alone, of whatever drop.
--
-- Locks: none. Errors: VALIDATION_ERROR (p_limit), FORBIDDEN (a buyer or seller names another user). If the reader may have missed
-- an event that the log has no more, or has one that was lost, the answer is one RESYNC_REQUIRED of no drop: the reader must start
-- from a snapshot. A reader has missed nothing if
--
-- - its event is in the log, or is the one just before the oldest; that is 0 for a log that has its beginning, or is empty;
-- - it reads some drops only and no user's events, and no event of these drops after its own was pruned. Then its event may be older
--   than the log, but must not be one that was lost (api.ensure_epoch).
--
-- The event of a reader may be one that the reader may not see, because a snapshot has the id of the latest one.
--
-- Readers take everything after the key `data` as it is, so `data` stays the last column. In it is `at`, when it was published.

create or replace function api.events_after(p_after bigint, p_limit integer, p_drop_ids uuid[], p_user_id uuid)
returns table (type text, id text, drop_id uuid, data json)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform inventory.require_self(p_user_id);
  return query select l.type, l.id, l.drop_id, l.data from inventory.logged_events(p_after, p_limit, p_drop_ids, p_user_id, false) l;
end
$$;

comment on function api.events_after(bigint, integer, uuid[], uuid) is
'As events_after without a user, and also the events that are for the user p_user_id alone.';

create or replace function api.events_after(p_after bigint, p_limit integer default 1000, p_drop_ids uuid[] default null)
returns table (type text, id text, drop_id uuid, data json)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return query select l.type, l.id, l.drop_id, l.data from inventory.logged_events(p_after, p_limit, p_drop_ids, null, false) l;
end
$$;

comment on function api.events_after(bigint, integer, uuid[]) is
'The events after event p_after, of the drops p_drop_ids or of all, oldest first, at most p_limit. After null: the latest ones, of
all drops. One RESYNC_REQUIRED, of no drop, if the log cannot tell what came after that event.';
