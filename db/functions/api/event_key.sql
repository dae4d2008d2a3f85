-- api.event_key: return the key (64 bytes) with which a listener checks the codes in notifications; see inventory.publish.
--
-- Only the service may call it. A role that knows the key can forge events. Locks: none. Errors: none.

create or replace function api.event_key()
returns bytea
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select k.key from inventory.event_key k
$$;

comment on function api.event_key() is
'The key of the codes (HMAC-SHA-256) by which a listener knows which notifications are events. Keep it secret.';
