-- api.list_payment_problems: those of all nodes, the newest first. Nodes number their own, so an id here is the node's id times 256, plus
-- the number of the node.

create or replace function api.list_payment_problems(
  p_limit integer default 50, p_before bigint default null, p_before_at timestamptz default null
)
returns table (
  id bigint,
  at timestamptz,
  problem text,
  provider text,
  event_id text,
  status text,
  amount numeric,
  currency text,
  refunded_amount numeric,
  payment_id uuid,
  drop_id uuid,
  user_id uuid,
  username text,
  payment_status text,
  payment_amount numeric,
  payment_currency text
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_before_node integer := p_before % 256;
  v_before_at timestamptz := coalesce(p_before_at, 'infinity');
  v_away integer[] := '{}';
  v_pages json[] := '{}';
  v_node integer;
  v record;
begin
  if p_before is not null and v_before_node <> all (router.all_nodes()) then
    perform router.refuse('VALIDATION_ERROR', 'cursor: is not of this list; begin again without one');
  elsif p_before is not null and p_before_at is null then
    v_before_at := router.ask(v_before_node, 'list_payment_problems', jsonb_build_object('p_limit', 1, 'p_before', p_before / 256 + 1))
      -> 0 ->> 'at';
  end if;
  foreach v_node in array router.all_nodes() loop
    select * into strict v
    from router.answer(v_node, 'list_payment_problems', jsonb_build_object(
      'p_limit', p_limit, 'p_before_at', v_before_at,
      'p_before', p_before / 256 + case when v_node < v_before_node then 1 else 0 end));
    if v.is_away then
      v_away := v_away || v_node;
    else
      v_pages := v_pages || (
        select json_agg(jsonb_set(e.value::jsonb, '{id}', to_jsonb((e.value ->> 'id')::bigint * 256 + v_node)))
        from json_array_elements(router.rows_or_refusal(v_node, v)) e
      );
    end if;
  end loop;
  perform router.note_incomplete(v_away);
  return query
  select r.*
  from json_to_recordset(router.together(v_pages)) as r (
    id bigint, at timestamptz, problem text, provider text, event_id text, status text, amount numeric, currency text,
    refunded_amount numeric, payment_id uuid, drop_id uuid, user_id uuid, username text, payment_status text,
    payment_amount numeric, payment_currency text)
  order by r.at desc, r.id desc
  limit greatest(p_limit, 1); -- a limit that is wrong is the nodes' to refuse
end
$$;

comment on function api.list_payment_problems(integer, bigint, timestamptz) is
'List the events of payment providers that the seller has to look at, the newest first: p_limit of them, after the one whose id is
p_before.';
