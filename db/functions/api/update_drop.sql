-- api.update_drop: change a drop: its name, price, picture, terms, times, status, stock or variants; pause and resume it.
--
-- p_changes is a JSON object of the fields to change; null clears a time, a term or the
-- picture. add_stock changes total_stock by so many units,
-- so that two sellers who each add some do not undo one another. inventory.may_become defines the allowed changes of status,
-- inventory.drop_after_changes how a change of status sets starts_at and ends_at, inventory.variants_after_changes what variants
-- may become. With p_if_revision nothing is changed unless the drop has that revision, which a sale does not raise.
--
-- Steps: inventory.check_drop_changes looks at the JSON. The drop is locked, and what is due is taken back as far as it matters.
-- inventory.drop_after_changes decides about fields, status and times. If the drop is cancelled, inventory.cancel_all_holds ends
-- its holds and inventory.cancel_pending its open payments. Then the rows are written.
--
-- Locks, in this order: the drop's row; its ACTIVE reservations, then its pending purchases and their payments, in the order of
-- their ids when it is cancelled; due ones, with skip locked, when stock is lowered. Errors: DROP_NOT_FOUND, VALIDATION_ERROR,
-- INVALID_STATUS_CHANGE, STOCK_BELOW_COMMITTED, VARIANT_NOT_FOUND, VARIANT_IN_USE, DROP_CHANGED, FORBIDDEN (a seller names
-- another user), AUTH_REQUIRED.

create or replace function api.update_drop(
  p_drop_id uuid, p_changes jsonb, p_if_revision integer default null, p_changed_by uuid default null
)
returns setof api.drop_row
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_drop inventory.drops;
  v_new inventory.drops;
  v_variants inventory.variants[];
  v_released integer;
  v_committed integer; -- units held and sold
  v_before jsonb;
  v_changed jsonb;
  v_constraint_name text;
begin
  perform inventory.acting_user(p_changed_by);
  perform inventory.check_drop_changes(p_changes);

  select * into v_drop from inventory.drops d where d.id = p_drop_id for no key update;
  if not found then
    perform inventory.refuse('DROP_NOT_FOUND');
  end if;
  if p_if_revision <> v_drop.revision then
    perform inventory.refuse('DROP_CHANGED');
  end if;
  v_before := to_jsonb(inventory.drop_row(v_drop));
  v_new := inventory.drop_after_changes(v_drop, p_changes);

  if v_new.status = 'cancelled' then
    v_released := inventory.cancel_all_holds(p_drop_id);
    perform inventory.cancel_pending(p_drop_id, p_waits => true); -- no purchase of this drop can begin any more
    select d.available_stock + v_released into v_drop.available_stock from inventory.drops d where d.id = p_drop_id;
  elsif p_changes ?| array['total_stock', 'add_stock', 'variants'] and inventory.has_due(v_drop) then
    perform from inventory.expire_due(p_drop_id, inventory.lock_due_reservations(v_drop, 100000));
    perform inventory.expire_due_purchases(v_drop, 100000);
    select d.available_stock into v_drop.available_stock from inventory.drops d where d.id = p_drop_id;
  end if;
  v_committed := v_drop.total_stock - v_drop.available_stock;
  if p_changes ? 'variants' then
    v_variants := inventory.variants_after_changes(v_drop, p_changes -> 'variants');
    v_new.total_stock := inventory.sum_of_stock(v_variants);
    if cardinality(v_variants) = (select count(*) from inventory.variants v where v.drop_id = p_drop_id) and not exists (
      select n.id, n.name, n.price, n.total_stock, n.position from unnest(v_variants) n
      except
      select v.id, v.name, v.price, v.total_stock, v.position from inventory.variants v where v.drop_id = p_drop_id
    ) then
      v_variants := null; -- they stay as they are, which is no change of the drop
    end if;
  end if;
  if v_new.total_stock < v_committed then
    perform inventory.refuse(
      'STOCK_BELOW_COMMITTED', format('total_stock may not be less than the %s units held and sold.', v_committed));
  end if;

  if v_variants is not null then
    perform inventory.write_variants(p_drop_id, v_variants);
  end if;
  update inventory.drops d
  set
    name = v_new.name,
    price = v_new.price,
    total_stock = v_new.total_stock,
    available_stock = v_new.total_stock - v_committed,
    starts_at = v_new.starts_at,
    ends_at = v_new.ends_at,
    status = v_new.status,
    paused_at = v_new.paused_at,
    limit_per_user = v_new.limit_per_user,
    hold_seconds = v_new.hold_seconds,
    rehold_after_seconds = v_new.rehold_after_seconds,
    extension_seconds = v_new.extension_seconds,
    image_url = v_new.image_url,
    revision = d.revision + (v_variants is not null)::integer,
    updated_at = now()
  where d.id = p_drop_id
  returning d.* into v_new;
  v_changed := inventory.changed_fields(v_before, to_jsonb(inventory.drop_row(v_new)) - array['updatedAt', 'revision']);
  if v_changed <> '{}' then
    perform inventory.record_change(
      p_drop_id, case when v_changed #>> '{status,to}' = 'cancelled' then 'cancelled' else 'updated' end, p_changed_by, v_changed);
  end if;
  return query select r.* from inventory.drop_row(v_new) r;
exception when check_violation or unique_violation then
  get stacked diagnostics v_constraint_name = constraint_name;
  perform inventory.refuse_constraint(v_constraint_name);
end
$$;

comment on function api.update_drop(uuid, jsonb, integer, uuid) is
'Change a drop and return it. p_changes holds any of name, price, starts_at, ends_at, status, total_stock or add_stock or variants,
paused, limit_per_user, hold_seconds, rehold_after_seconds, extension_seconds, image_url; null clears a time, a term or the
picture. Cancelling releases every hold. With p_if_revision the drop is changed only if it has that revision. select * from api.update_drop(''…'', ''{"status": "live"}'');';
