-- inventory.cancel_all_holds: cancel every ACTIVE reservation of a drop and return how many units they held.
--
-- Purpose: a step of api.update_drop, when the drop is cancelled. The stock is the caller's to change, together with the rest of
-- the row.
--
-- Locks: the caller holds the drop's row; the ACTIVE reservations in the order of their ids. Errors: none.

create or replace function inventory.cancel_all_holds(p_drop_id uuid)
returns integer
language plpgsql
as $$
declare
  v_cancelled_ids uuid[] := array(
    select r.id
    from inventory.reservations r
    where r.drop_id = p_drop_id and r.status = 'ACTIVE'
    order by r.id
    for no key update
  );
begin
  update inventory.reservations r
  set status = 'CANCELLED', updated_at = now()
  where r.id = any (v_cancelled_ids) and r.drop_id = p_drop_id;
  return cardinality(v_cancelled_ids);
end
$$;

comment on function inventory.cancel_all_holds(uuid) is
'Cancel every ACTIVE reservation of a drop and return how many units they held. The caller holds the drop''s lock.';
