-- inventory.acting_user: who makes a seller's change: p_user_id, or else the subject of the session's verified claims.
--
-- Purpose: a seller's function calls this before it notes an Idempotency-Key, because a key belongs to a user. So does
-- inventory.record_change, for the history. Null: there is neither, so only the session's role is known.
--
-- Locks: none. Errors: FORBIDDEN (a seller names another user), AUTH_REQUIRED (there is no such user).

create or replace function inventory.acting_user(p_user_id uuid)
returns uuid
language plpgsql stable
as $$
declare
  v_subject text := nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub';
begin
  if p_user_id is not null then
    perform inventory.require_self(p_user_id);
    perform inventory.require_user(p_user_id);
    return p_user_id;
  end if;
  return case when v_subject ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then v_subject::uuid end;
end
$$;

comment on function inventory.acting_user(uuid) is
'The user of a seller''s change: the one that is named, who must be the caller, or else the subject of the session''s claims.';
