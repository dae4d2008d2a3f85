-- api.redeem_stream_ticket: the user of a ticket. Each node has a key of its own, so the nodes are asked in turn.

create or replace function api.redeem_stream_ticket(p_ticket text)
returns uuid
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_away integer[] := '{}';
  v_node integer;
  v record;
begin
  foreach v_node in array router.all_nodes() loop
    select * into strict v from router.answer(v_node, 'redeem_stream_ticket', jsonb_build_object('p_ticket', p_ticket));
    if v.is_away then
      v_away := v_away || v_node;
    elsif v.code is null then
      return v.rows ->> 0;
    end if;
  end loop;
  if v_away <> '{}' then
    perform router.refuse_away(v_away);
  end if;
  perform router.refuse('TICKET_INVALID');
end
$$;

comment on function api.redeem_stream_ticket(text) is 'The user of a stream ticket, if the ticket is genuine and not too old.';
