-- inventory.claim_idempotency_key: let a rare request count once for each user and key.
--
-- Purpose: a function that makes a row calls this first, with the id that the row is to have. If the same request came before with
-- this key, the answer is the id of the row that it made, and the caller returns that row as it is now. Otherwise the answer is
-- null, the key is noted, and the caller goes on. Without a key it always goes on. A request that is refused afterwards rolls the
-- note back, so its key is free again.
--
-- Locks: the key. It waits for a transaction that has noted the same key, and then sees what that one made.
-- Errors: VALIDATION_ERROR (the key), IDEMPOTENCY_KEY_REUSED.

create or replace function inventory.claim_idempotency_key(
  p_user_id uuid,
  p_key text,
  p_operation text,
  p_request jsonb,
  p_row_id uuid
)
returns uuid
language plpgsql
as $$
declare
  v_fingerprint bytea := sha256(convert_to(p_operation || ' ' || p_request, 'UTF8'));
  v_earlier inventory.idempotency_keys;
begin
  if p_key is null or p_row_id is null or p_request is null then -- a caller that names no row refuses that itself
    return null;
  end if;
  perform inventory.check_idempotency_keys(array[p_key]);
  loop
    insert into inventory.idempotency_keys (user_id, key, fingerprint, row_id)
    values (p_user_id, p_key, v_fingerprint, p_row_id)
    on conflict do nothing;
    if found then
      return null;
    end if;
    select * into v_earlier
    from inventory.idempotency_keys k
    where k.user_id is not distinct from p_user_id and k.key = p_key;
    exit when found; -- otherwise it was pruned in this moment
  end loop;
  if v_earlier.fingerprint <> v_fingerprint then
    perform inventory.refuse('IDEMPOTENCY_KEY_REUSED');
  end if;
  return v_earlier.row_id;
end
$$;

comment on function inventory.claim_idempotency_key(uuid, text, text, jsonb, uuid) is
'Note the Idempotency-Key of a request that is to make the row p_row_id. Null: go on. Otherwise the id of the row that the same
request made before.';
