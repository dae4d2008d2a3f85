-- inventory.drop_after_changes: a drop as it is after these changes, without its stock: the fields, the status, and the times
-- that the status sets.
--
-- Purpose: the second step of api.update_drop. It decides and writes nothing. Going live starts the drop now unless it has
-- started; ending it ends it now unless it has ended. A time that is among the changes is kept as given.
--
-- Locks: none; the caller holds the drop's row. Errors: VALIDATION_ERROR (status, starts_at), INVALID_STATUS_CHANGE.

create or replace function inventory.drop_after_changes(p_drop inventory.drops, p_changes jsonb)
returns inventory.drops
language plpgsql stable
as $$
declare
  v_new inventory.drops := jsonb_populate_record(p_drop, p_changes - array['price', 'variants', 'add_stock', 'paused']);
  v_from text := inventory.status_now(p_drop); -- whatever the sweep has done
begin
  if v_new.status not in ('draft', 'scheduled', 'live', 'ended', 'cancelled') then
    perform inventory.refuse_constraint('drops_status_check');
  end if;
  if p_changes ? 'status' and not inventory.may_become(v_from, v_new.status) then
    perform inventory.refuse('INVALID_STATUS_CHANGE', format('A drop that is %s cannot become %s.', v_from, v_new.status));
  end if;

  if v_new.status = 'draft' and p_drop.available_stock < p_drop.total_stock then
    perform inventory.refuse('INVALID_STATUS_CHANGE', 'A drop whose units are held or sold cannot become a draft.');
  end if;

  v_new.price := inventory.check_price(coalesce((p_changes ->> 'price')::numeric, p_drop.price), p_drop.currency);
  if p_changes ? 'add_stock' then
    if p_drop.total_stock::bigint + inventory.whole_number(p_changes -> 'add_stock') > 2147483647 then
      perform inventory.refuse('VALIDATION_ERROR', 'total_stock: must be 2147483647 or less');
    elsif p_drop.total_stock::bigint + inventory.whole_number(p_changes -> 'add_stock') < 1 then
      perform inventory.refuse_constraint('drops_total_stock_check');
    end if;
    v_new.total_stock := p_drop.total_stock + inventory.whole_number(p_changes -> 'add_stock');
  end if;
  if v_new.total_stock <> p_drop.total_stock
    and exists (select from inventory.variants v where v.drop_id = p_drop.id) then
    perform inventory.refuse(
      'VALIDATION_ERROR',
      case
        when p_changes ? 'add_stock' then 'add_stock: total_stock is the sum of the variants; add to theirs'
        else 'total_stock: is the sum of the variants; change theirs'
      end);
  end if;
  v_new.paused_at := case
    when not p_changes ? 'paused' then p_drop.paused_at
    when (p_changes ->> 'paused')::boolean then coalesce(p_drop.paused_at, now())
  end;

  if p_changes ? 'starts_at' and v_new.starts_at > now() and 'live' in (v_from, v_new.status) then
    perform inventory.refuse('VALIDATION_ERROR', 'starts_at: a live drop has started');
  end if;
  if v_from = 'ended' and p_changes ? 'ends_at' and coalesce(v_new.ends_at > now(), true) then
    perform inventory.refuse('INVALID_STATUS_CHANGE', 'This drop is over and stays over; its ends_at cannot be extended.');
  end if;
  if v_new.status = 'live' and not p_changes ? 'starts_at' then
    v_new.starts_at := least(v_new.starts_at, now());
  end if;
  if v_new.status = 'ended' and p_drop.status <> 'ended' and v_new.starts_at < now() and not p_changes ? 'ends_at' then
    v_new.ends_at := least(v_new.ends_at, now());
  end if;
  return v_new;
end
$$;

comment on function inventory.drop_after_changes(inventory.drops, jsonb) is
'A drop as it is after these changes, its available stock aside. Raises if its status may not change so.';
