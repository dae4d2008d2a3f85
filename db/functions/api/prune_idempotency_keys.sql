-- api.prune_idempotency_keys: forget the keys that are older than p_retention_seconds and return their number.
--
-- Purpose: a client repeats a request within minutes; a key that is pruned makes a new row if it comes again. Keys of reserves and
-- purchases are not here, they stay with their rows.
--
-- Locks: the keys that it deletes. Two calls may delete the same ones, and neither waits for anything else. Errors:
-- VALIDATION_ERROR (p_retention_seconds).

create or replace function api.prune_idempotency_keys(p_retention_seconds integer)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pruned bigint;
begin
  if p_retention_seconds is null or p_retention_seconds < 0 then
    perform inventory.refuse('VALIDATION_ERROR', 'p_retention_seconds: must be 0 or more');
  end if;
  delete from inventory.idempotency_keys k where k.created_at < now() - make_interval(secs => p_retention_seconds);
  get diagnostics v_pruned = row_count;
  return v_pruned;
end
$$;

comment on function api.prune_idempotency_keys(integer) is
'Delete the Idempotency-Keys of rare requests that are older than p_retention_seconds, and return their number.';
