-- api.forget_user: on every node on which the user is known. If a node is away it is done on the others, and refused; it can be
-- repeated, and must be, because the user may be known there.

create or replace function api.forget_user(p_user_id uuid)
returns setof api."user"
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_away integer[] := '{}';
  v_rows json;
  v_node integer;
  v record;
begin
  perform router.refuse_block();
  foreach v_node in array router.all_nodes() loop
    select * into strict v
    from router.try_call(v_node, router.caller_role('forget_user'), 'forget_user', jsonb_build_object('p_user_id', p_user_id));
    if v.is_away then
      v_away := v_away || v_node;
    elsif v.code = 'AUTH_REQUIRED' then
      continue;
    else
      v_rows := coalesce(v_rows, router.rows_or_refusal(v_node, v));
    end if;
  end loop;
  if v_away <> '{}' then
    perform router.refuse_away(v_away);
  elsif v_rows is null then
    perform router.refuse('AUTH_REQUIRED');
  end if;
  foreach v_node in array router.all_nodes() loop -- all names, because a request before may have got no further than the nodes
    perform router.try_call(v_node, 'lastpair_service', 'release_name', jsonb_build_object('p_user_id', p_user_id));
  end loop;
  return query select r.* from json_populate_recordset(null::api."user", v_rows) r;
end
$$;

comment on function api.forget_user(uuid) is
'Replace a user''s name by one that says nothing, give back what the user holds, and return the user. What was sold stays.';
