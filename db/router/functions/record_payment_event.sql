-- api.record_payment_event: on the node of the payment. An event without its id is for the node that knows the provider's reference;
-- if none does, the first node keeps it for the seller to look at.

create or replace function api.record_payment_event(p_event api.payment_event)
returns table (outcome text, problem text, payment api.payment_row)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform router.refuse_block();
  return query
  select r.*
  from json_to_recordset(router.ask(
    router.node_of_payment(p_event), 'record_payment_event', jsonb_build_object('p_event', to_jsonb(p_event))
  )) as r (outcome text, problem text, payment api.payment_row);
end
$$;

create or replace function router.node_of_payment(p_event api.payment_event)
returns integer
language plpgsql
as $$
declare
  v_away integer[] := '{}';
  v_node integer;
  v record;
begin
  if p_event.payment_id is not null then
    return router.node_of(p_event.payment_id);
  end if;
  foreach v_node in array router.all_nodes() loop
    select * into strict v
    from router.try_call(v_node, 'lastpair_service', 'knows_payment', jsonb_build_object(
      'p_provider', p_event.provider, 'p_provider_reference', p_event.provider_reference));
    if v.is_away then
      v_away := v_away || v_node;
    elsif (v.rows ->> 0)::boolean then
      return v_node;
    end if;
  end loop;
  if v_away <> '{}' then
    perform router.refuse_away(v_away); -- the provider tells it again
  end if;
  return (router.all_nodes())[1];
end
$$;

comment on function router.node_of_payment(api.payment_event) is 'The node that is told this event of a provider.';

comment on function api.record_payment_event(api.payment_event) is
'Keep what a provider tells about a payment, once, and let the payment become so, if it may. Returns applied, unchanged or
flagged, the problem if there is one, and the payment as it is then.';
