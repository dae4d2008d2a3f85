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
  v_new inventory.drops := jsonb_populate_record(p_drop, p_changes);
  -- Once its starts_at has passed, a scheduled drop is live in all but name.
  v_from text := case when p_drop.status = 'scheduled' and p_drop.starts_at <= now() then 'live' else p_drop.status end;
begin
  if v_new.status not in ('draft', 'scheduled', 'live', 'ended', 'cancelled') then
    perform inventory.refuse_constraint('drops_status_check');
  end if;
  if v_new.status <> p_drop.status and not inventory.may_become(v_from, v_new.status) then
    perform inventory.refuse('INVALID_STATUS_CHANGE', format('A drop that is %s cannot become %s.', v_from, v_new.status));
  end if;

  if p_changes ? 'starts_at' and v_new.starts_at > now() and 'live' in (v_from, v_new.status) then
    perform inventory.refuse('VALIDATION_ERROR', 'starts_at: a live drop has started');
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
