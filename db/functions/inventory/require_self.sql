-- inventory.require_self: refuse a caller who may act for one user only and names another user.
--
-- Purpose: the first step of every public function that takes one user and that a buyer or a seller may execute. A caller who may
-- not act for anyone acts for the subject of the session's verified token. PostgREST sets request.jwt.claims, as JSON, in each
-- transaction.
--
-- The subject must be a UUID with its hyphens. PostgreSQL has no SHA-1, so it cannot make a UUIDv5 of another subject. A subject
-- in another form equals no user and is refused.
--
-- Locks: none. Errors: FORBIDDEN.

create or replace function inventory.require_self(p_user_id uuid)
returns void
language plpgsql stable
as $$
begin
  if inventory.may_act_for_anyone() then
    return;
  end if;
  if (p_user_id::text = lower(nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub')) is not true then
    perform inventory.refuse('FORBIDDEN', 'You can act for yourself only: the user must be the subject of your token.');
  end if;
end
$$;

comment on function inventory.require_self(uuid) is
'Raise FORBIDDEN if the caller may act for one user only and this is not the subject of the session''s verified claims.';
