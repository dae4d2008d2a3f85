-- api.take_provider_calls: the calls to providers that are due, of all nodes, at most p_limit together; or those of one payment.

create or replace function api.take_provider_calls(p_limit integer, p_lease_seconds integer, p_payment_id uuid default null)
returns setof api.provider_call
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_nodes integer[] := case when p_payment_id is null then router.all_nodes() else array[router.node_of(p_payment_id)] end;
  v_away integer[] := '{}';
  v_left integer := p_limit;
  v_node integer;
  v record;
begin
  perform router.refuse_block();
  foreach v_node in array v_nodes loop
    exit when v_left < 1 and v_node <> v_nodes[1]; -- a limit that is wrong from the start is the first node's to refuse
    select * into strict v
    from router.answer(v_node, 'take_provider_calls', jsonb_build_object(
      'p_limit', v_left, 'p_lease_seconds', p_lease_seconds, 'p_payment_id', p_payment_id));
    if v.is_away then
      v_away := v_away || v_node;
    else
      return query select r.* from json_populate_recordset(null::api.provider_call, router.rows_or_refusal(v_node, v)) r;
      v_left := v_left - json_array_length(v.rows);
    end if;
  end loop;
  perform router.note_incomplete(v_away);
end
$$;

comment on function api.take_provider_calls(integer, integer, uuid) is
'Lease at most p_limit calls to payment providers that are due for p_lease_seconds, the longest due first.';
