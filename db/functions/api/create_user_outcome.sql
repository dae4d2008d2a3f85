-- api.create_user_outcome: make a user, and say whether the Idempotency-Key came before.
--
-- Purpose: calls api.create_user for the service. Status: 201, or 200 of a replay. Locks and errors: see there; a refusal is raised.

create or replace function api.create_user_outcome(p_username text, p_idempotency_key text)
returns setof api.outcome
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_user api."user";
  v_replayed boolean;
begin
  select * into v_user from api.create_user(p_username, p_idempotency_key);
  v_replayed := inventory.is_replay(null, p_idempotency_key);
  return next row(1, case when v_replayed then 200 else 201 end, null, null, v_replayed, to_json(v_user))::api.outcome;
end
$$;

comment on function api.create_user_outcome(text, text) is
'Make a user as api.create_user does. The outcome has status 201, or 200 if the Idempotency-Key came before.';
