-- api.create_stream_ticket: a ticket with which a stream gets the user's own events, for 60 seconds.
--
-- Purpose: a browser's EventSource and WebSocket can send no header, so the identity of a stream is in its URL. URLs are written down
-- in many places, so what stands there must be worthless soon. Nothing of a ticket is stored: it is the user's id, the end of its time
-- in seconds since 1970, and a code over both. It may be used more than once until then.
--
-- Locks: none. Errors: FORBIDDEN (a buyer or seller names another user), AUTH_REQUIRED (there is no such user).

create or replace function api.create_stream_ticket(p_user_id uuid)
returns table (ticket text, expires_at timestamptz)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_ends bigint := floor(extract(epoch from now()))::bigint + 60;
  v_text text := replace(p_user_id::text, '-', '') || '.' || v_ends;
begin
  perform inventory.require_self(p_user_id);
  perform inventory.require_user(p_user_id);
  return query select v_text || '.' || encode(inventory.ticket_code(v_text), 'hex'), to_timestamp(v_ends);
end
$$;

comment on function api.create_stream_ticket(uuid) is
'Make a ticket with which a stream gets the events that are for this user alone. It is good for 60 seconds.';
