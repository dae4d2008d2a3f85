-- inventory.limit_lock_waits: if these ids differ, wait no longer than 100 ms for a lock from here on.
--
-- Purpose: a batch of several drops (or of several users) holds the locks of the first ones while it waits for the next one, and
-- so holds up everybody at those. It must not wait long. A batch of one waits for its lock as long as the session allows.
--
-- The setting lasts until the end of the transaction. The caller notes lock_timeout before and sets it back after its work; after
-- an error PostgreSQL does that. Locks: none. Errors: none here; the caller's next lock may raise lock_not_available (55P03).

create or replace function inventory.limit_lock_waits(p_ids uuid[])
returns void
language plpgsql
as $$
begin
  if (p_ids[1] = all (p_ids)) is not true then -- they differ, or one is null
    perform set_config('lock_timeout', '100ms', true);
  end if;
end
$$;

comment on function inventory.limit_lock_waits(uuid[]) is
'Set lock_timeout to 100 ms unless all these ids are the same. The caller sets it back.';
