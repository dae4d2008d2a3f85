-- api.cursor_time: when a row comes in a list.
--
-- Purpose: a router merges a list of all nodes. A page comes after a row that only one node has, so the router asks that node for the
-- time of the row, and gives it to the others as p_after_at. p_list is the function of the list. What the user or the status of the
-- list is, the list of the row's own node checks.
--
-- A drop without a start comes first in api.list_drops, so its time is infinity. In api.list_provider_calls what is open comes first:
-- its time is infinity, and that of what is done is -infinity, because the rest of the order is by id.
--
-- Locks: none. Errors: VALIDATION_ERROR (cursor); invalid_parameter_value (22023): there is no such list.

create or replace function api.cursor_time(p_list text, p_id uuid)
returns timestamptz
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_at timestamptz;
begin
  case p_list
    when 'list_drops' then
      select coalesce(d.starts_at, 'infinity') into v_at
      from inventory.drops d
      where d.id = p_id and (inventory.is_public(d) or d.status = 'draft');
    when 'my_reservations' then
      select r.created_at into v_at from inventory.reservations r where r.id = p_id;
    when 'my_purchases' then
      select p.created_at into v_at from inventory.purchases p where p.id = p_id;
    when 'list_payments' then
      select y.created_at into v_at from inventory.payments y where y.id = p_id;
    when 'list_provider_calls' then
      select case when c.done_at is null then 'infinity' else '-infinity' end::timestamptz into v_at
      from inventory.provider_calls c
      where c.id = p_id;
    when 'list_webhook_deliveries' then
      select d.created_at into v_at from inventory.webhook_deliveries d where d.id = p_id;
    else
      raise invalid_parameter_value using message = format('%L is not a list that a router merges', p_list);
  end case;
  if v_at is null then
    perform inventory.refuse_cursor();
  end if;
  return v_at;
end
$$;

comment on function api.cursor_time(text, uuid) is
'For a router: when the row p_id comes in the list p_list (list_drops, my_reservations, my_purchases, list_payments,
list_provider_calls, list_webhook_deliveries).';
