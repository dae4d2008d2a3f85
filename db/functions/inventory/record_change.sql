-- inventory.record_change: add a row to the history of a drop.
--
-- Purpose: the last step of every public function with which a seller changes a drop. inventory.acting_user says
-- who did it.
--
-- Locks: none; the caller holds the drop's row. Errors: FORBIDDEN (a seller names another user), AUTH_REQUIRED (there is no such
-- user).

create or replace function inventory.record_change(p_drop_id uuid, p_action text, p_changed_by uuid, p_details jsonb)
returns void
language plpgsql
as $$
begin
  insert into inventory.drop_changes (drop_id, action, changed_by, db_user, details)
  values (
    p_drop_id, p_action, inventory.acting_user(p_changed_by),
    coalesce(nullif(current_setting('role'), 'none'), session_user), p_details);
end
$$;

comment on function inventory.record_change(uuid, text, uuid, jsonb) is 'Add what was done to a drop, and who did it, to its history.';
