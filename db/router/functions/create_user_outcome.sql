-- api.create_user_outcome: make a user as api.create_user does, and say whether the Idempotency-Key came before.

create or replace function api.create_user_outcome(p_username text, p_idempotency_key text)
returns setof api.outcome
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_registers integer[] := router.registers_of(p_username);
  v_node integer;
  v_outcome api.outcome;
  v_user api."user";
  v_is_granted boolean;
begin
  perform router.refuse_block();
  v_node := case
    when p_idempotency_key is not null then router.node_of_key(null, p_idempotency_key)
    else coalesce(v_registers[cardinality(v_registers)], (router.all_nodes())[1]) -- no name: the node refuses that
  end;
  select r.* into v_outcome
  from json_populate_recordset(null::api.outcome, router.ask(v_node, 'create_user_outcome', jsonb_build_object(
    'p_username', p_username, 'p_idempotency_key', p_idempotency_key))) r;
  v_user := json_populate_record(null::api."user", v_outcome.data);
  -- A user who was renamed or forgotten since then has another name.
  if router.name_key(v_user.username) = router.name_key(normalize(p_username, NFC)) then
    begin
      v_is_granted := (router.claim_names(array[row(v_user.id, v_user.username)::api.user_request], true))[1];
    exception when sqlstate 'PT503' then
      -- Otherwise the name would be taken when the request is repeated, by a user of whom nobody knows.
      if not v_outcome.replayed then
        perform router.ask_as_service(v_node, 'forget_user', jsonb_build_object('p_user_id', v_user.id));
        perform router.release_name(v_user.id, v_user.username);
      end if;
      raise;
    end;
  end if;
  if not v_is_granted then
    perform router.ask_as_service(v_node, 'forget_user', jsonb_build_object('p_user_id', v_user.id));
    perform router.refuse('USERNAME_TAKEN');
  end if;
  return next v_outcome;
end
$$;

comment on function api.create_user_outcome(text, text) is
'Make a user as api.create_user does. The outcome has status 201, or 200 if the Idempotency-Key came before.';
