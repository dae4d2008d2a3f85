-- api.cancel_drop: cancel a drop, and refund its sales if that is wanted.
--
-- Purpose: cancelling releases every hold. With p_refund, up to 500 paid purchases are refunded besides, because a drop may have
-- more sales than one transaction should change. Call it again until `remaining` is 0: a drop that is cancelled stays so. With
-- p_refund a drop that is over stays over, and its sales are refunded; holds that it still has are released, because they would
-- become sales. What is due is taken back before, because it is not held any more, and the history tells how many units were. A key
-- that came with another request is refused.
--
-- Locks, in this order: the key; of a drop that is over its due reservations, with skip locked; as api.update_drop and
-- api.refund_drop take them. Errors: DROP_NOT_FOUND, INVALID_STATUS_CHANGE, IDEMPOTENCY_KEY_REUSED, FORBIDDEN (a seller names
-- another user), AUTH_REQUIRED.

create or replace function api.cancel_drop(
  p_drop_id uuid, p_refund boolean default false, p_cancelled_by uuid default null, p_idempotency_key text default null
)
returns table (drop api.drop_row, remaining bigint, replayed boolean)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_user_id uuid := inventory.acting_user(p_cancelled_by);
  v_drop inventory.drops;
  v_released integer; -- units
  v_refunds_a_call constant integer := 500;
begin
  p_refund := coalesce(p_refund, false);
  perform inventory.claim_idempotency_key(
    v_user_id, p_idempotency_key, 'cancel_drop',
    jsonb_build_object('drop_id', p_drop_id, 'refund', p_refund), p_drop_id);
  select * into v_drop from inventory.drops d where d.id = p_drop_id for no key update;
  if not found or (v_drop.status <> 'cancelled' and not (p_refund and inventory.status_now(v_drop) = 'ended')) then
    perform from api.update_drop(p_drop_id, '{"status": "cancelled"}', p_changed_by => p_cancelled_by);
  elsif v_drop.status <> 'cancelled' then
    perform from inventory.expire_due(p_drop_id, inventory.lock_due_reservations(v_drop, 100000));
    v_released := inventory.cancel_all_holds(p_drop_id);
    if v_released > 0 then
      update inventory.drops d set available_stock = d.available_stock + v_released, updated_at = now() where d.id = p_drop_id;
      perform inventory.record_change(
        p_drop_id, 'updated', p_cancelled_by,
        jsonb_build_object('held_stock', jsonb_build_object('from', v_released, 'to', 0)));
    end if;
  end if;
  remaining := 0;
  if p_refund then
    select r.remaining into remaining from api.refund_drop(p_drop_id, v_refunds_a_call, p_cancelled_by) r;
  end if;
  drop := (select inventory.drop_row(d) from inventory.drops d where d.id = p_drop_id);
  replayed := inventory.is_replay(v_user_id, p_idempotency_key);
  return next;
end
$$;

comment on function api.cancel_drop(uuid, boolean, uuid, text) is
'Cancel a drop and return it. With p_refund, up to 500 of its sales are refunded, too: call it again until remaining is 0.
select (drop).*, remaining from api.cancel_drop(''…'', true);';
