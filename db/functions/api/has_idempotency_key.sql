-- api.has_idempotency_key: whether a request of this user came here with this Idempotency-Key.
--
-- Purpose: a router asks this before it makes a row, because the first request may have been sent to another node.
--
-- Locks: none. Errors: none.

create or replace function api.has_idempotency_key(p_user_id uuid, p_key text)
returns boolean
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select exists (select from inventory.idempotency_keys k where k.user_id is not distinct from p_user_id and k.key = p_key)
$$;

comment on function api.has_idempotency_key(uuid, text) is
'For a router: whether a request of this user (null: of nobody) came here with this Idempotency-Key.';
