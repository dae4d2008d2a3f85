-- api.update_drop: change a drop: its name, price, times, status or stock.
--
-- p_changes is a JSON object of the fields to change; null clears starts_at or ends_at. inventory.may_become defines the
-- allowed changes of status, inventory.drop_after_changes how a change of status sets starts_at and ends_at.
--
-- Steps: inventory.check_drop_changes looks at the JSON. The drop is locked. inventory.drop_after_changes decides about fields,
-- status and times. If the drop is cancelled, inventory.cancel_all_holds ends its holds. If total_stock would be less than the
-- units held and sold, due holds are taken back. Then the row is written.
--
-- Locks, in this order: the drop's row; its ACTIVE reservations in the order of their ids when it is cancelled; due ones, with
-- skip locked, when total_stock is lowered. Errors: DROP_NOT_FOUND, VALIDATION_ERROR, INVALID_STATUS_CHANGE,
-- STOCK_BELOW_COMMITTED.

create or replace function api.update_drop(p_drop_id uuid, p_changes jsonb)
returns setof api.drop
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_drop inventory.drops;
  v_new inventory.drops;
  v_committed integer; -- units held and sold
  v_constraint_name text;
begin
  perform inventory.check_drop_changes(p_changes);

  select * into v_drop from inventory.drops d where d.id = p_drop_id for no key update;
  if not found then
    perform inventory.refuse('DROP_NOT_FOUND');
  end if;
  v_new := inventory.drop_after_changes(v_drop, p_changes);

  v_committed := v_drop.total_stock - v_drop.available_stock;
  if v_new.status = 'cancelled' then
    v_committed := v_committed - inventory.cancel_all_holds(p_drop_id);
  end if;
  if v_new.total_stock < v_committed then
    v_committed := v_committed - (
      select count(*)
      from inventory.expire_due(
        p_drop_id, inventory.lock_due_reservations(p_drop_id, v_committed - v_new.total_stock))
    );
  end if;
  if v_new.total_stock < v_committed then
    perform inventory.refuse(
      'STOCK_BELOW_COMMITTED', format('total_stock may not be less than the %s units held and sold.', v_committed));
  end if;

  return query
  with updated as (
    update inventory.drops d
    set
      name = v_new.name,
      price = v_new.price,
      total_stock = v_new.total_stock,
      available_stock = v_new.total_stock - v_committed,
      starts_at = v_new.starts_at,
      ends_at = v_new.ends_at,
      status = v_new.status,
      updated_at = now()
    where d.id = p_drop_id
    returning d.*
  )
  select (inventory.drop_row(updated)).* from updated;
exception when check_violation then
  get stacked diagnostics v_constraint_name = constraint_name;
  perform inventory.refuse_constraint(v_constraint_name);
end
$$;

comment on function api.update_drop(uuid, jsonb) is
'Change a drop and return it. p_changes holds any of name, price, starts_at, ends_at, status, total_stock; null clears a time.
Cancelling releases every hold. select * from api.update_drop(''…'', ''{"status": "live"}'');';
