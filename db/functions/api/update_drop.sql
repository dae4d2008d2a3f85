-- api.update_drop: change a drop: its name, price, times, status or stock.
--
-- Locks, in this order: the drop's row; on cancelling, its ACTIVE reservations in the order of their ids, for every hold is
-- released. Lowering total_stock first takes back what is due. Errors: DROP_NOT_FOUND, VALIDATION_ERROR, INVALID_STATUS_CHANGE,
-- STOCK_BELOW_COMMITTED.
--
-- p_changes is a JSON object of the fields to change; null clears starts_at or ends_at. Legal moves of status:
--
--   draft      to scheduled, live, cancelled
--   scheduled  to draft, live, ended, cancelled; once its starts_at has passed it is live in all but name
--   live       to ended, cancelled
--   ended and cancelled are final
--
-- Going live starts the drop now unless it has started; ending it ends it now unless it has ended.

create or replace function api.update_drop(p_drop_id uuid, p_changes jsonb)
returns setof api.drop
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_old inventory.drops;
  v_new inventory.drops;
  v_from text;
  v_field text;
  v_value jsonb;
  v_kind text;
  v_committed integer;
  v_released uuid[];
  v_constraint_name text;
begin
  if jsonb_typeof(p_changes) is distinct from 'object' or p_changes = '{}' then
    perform inventory.refuse('VALIDATION_ERROR', 'body: must be an object with at least one field to change');
  end if;
  for v_field, v_value in select * from jsonb_each(p_changes) loop
    v_kind := case v_field
      when 'name' then 'string' when 'status' then 'string' when 'starts_at' then 'string' when 'ends_at' then 'string'
      when 'price' then 'number' when 'total_stock' then 'number'
    end;
    if v_kind is null then
      perform inventory.refuse('VALIDATION_ERROR', v_field || ': is not a field that can be changed');
    end if;
    if v_value = 'null' and v_field in ('starts_at', 'ends_at') then
      continue;
    elsif v_value = 'null' then
      perform inventory.refuse('VALIDATION_ERROR', v_field || ': may not be null');
    elsif jsonb_typeof(v_value) <> v_kind then
      perform inventory.refuse('VALIDATION_ERROR', format('%s: must be a %s', v_field, v_kind));
    end if;
    if v_field = 'price' then
      perform inventory.check_price((v_value #>> '{}')::numeric);
    end if;
    begin
      perform jsonb_populate_record(null::inventory.drops, jsonb_build_object(v_field, v_value));
    exception when data_exception then
      perform inventory.refuse('VALIDATION_ERROR', v_field || ': is not a value this field can have');
    end;
  end loop;
  if (p_changes ->> 'total_stock')::integer < 1 then
    perform inventory.refuse_constraint('drops_total_stock_check');
  end if;

  select * into v_old from inventory.drops d where d.id = p_drop_id for no key update;
  if not found then
    perform inventory.refuse('DROP_NOT_FOUND');
  end if;
  v_new := jsonb_populate_record(v_old, p_changes);

  v_from := case when v_old.status = 'scheduled' and v_old.starts_at <= now() then 'live' else v_old.status end;
  if v_new.status not in ('draft', 'scheduled', 'live', 'ended', 'cancelled') then
    perform inventory.refuse_constraint('drops_status_check');
  end if;
  if v_new.status <> v_old.status and (v_from, v_new.status) not in (
    ('draft', 'scheduled'), ('draft', 'live'), ('draft', 'cancelled'),
    ('scheduled', 'draft'), ('scheduled', 'live'), ('scheduled', 'ended'), ('scheduled', 'cancelled'),
    ('live', 'live'), ('live', 'ended'), ('live', 'cancelled')
  ) then
    perform inventory.refuse('INVALID_STATUS_CHANGE', format('A drop that is %s cannot become %s.', v_from, v_new.status));
  end if;

  if p_changes ? 'starts_at' and v_new.starts_at > now() and 'live' in (v_from, v_new.status) then
    perform inventory.refuse('VALIDATION_ERROR', 'starts_at: a live drop has started');
  end if;
  if v_new.status = 'live' and not p_changes ? 'starts_at' then
    v_new.starts_at := least(v_new.starts_at, now());
  end if;
  if v_new.status = 'ended' and v_old.status <> 'ended' and v_new.starts_at < now() and not p_changes ? 'ends_at' then
    v_new.ends_at := least(v_new.ends_at, now());
  end if;

  v_committed := v_old.total_stock - v_old.available_stock;
  if v_new.status = 'cancelled' then
    v_released := array(
      select r.id
      from inventory.reservations r
      where r.drop_id = p_drop_id and r.status = 'ACTIVE'
      order by r.id
      for no key update
    );
    update inventory.reservations r
    set status = 'CANCELLED', updated_at = now()
    where r.id = any (v_released) and r.drop_id = p_drop_id;
    v_committed := v_committed - cardinality(v_released);
  end if;
  if v_new.total_stock < v_committed then
    v_committed := v_committed - (
      select count(*)
      from inventory.expire_many(
        p_drop_id, inventory.due_reservations(p_drop_id, v_committed - v_new.total_stock))
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
