-- inventory.is_replay: whether the Idempotency-Key of this request was noted by another transaction, that is, by an earlier request.
--
-- Purpose: after inventory.claim_idempotency_key, to tell the caller which of the two it was. Locks: none. Errors: none.

create or replace function inventory.is_replay(p_user_id uuid, p_key text)
returns boolean
language sql volatile -- it must see what this statement has noted
as $$
  select exists (
    select
    from inventory.idempotency_keys k
    where k.user_id is not distinct from p_user_id and k.key = p_key and k.transaction_id <> pg_current_xact_id()
  )
$$;

comment on function inventory.is_replay(uuid, text) is 'Whether an earlier request noted this Idempotency-Key.';
