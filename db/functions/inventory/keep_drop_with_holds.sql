-- inventory.keep_drop_with_holds: trigger on drops: refuse to delete a drop that has reservations.
--
-- Purpose: what a foreign key of the reservations would do, which would cost each reserve a look-up.
--
-- Locks: the drop's row, which the delete holds. Errors: foreign_key_violation (23503).

create or replace function inventory.keep_drop_with_holds()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from inventory.reservations r where r.drop_id = old.id) then
    raise foreign_key_violation using message = format('drop %s has reservations, so it cannot be deleted', old.id);
  end if;
  return old;
end
$$;

comment on function inventory.keep_drop_with_holds() is 'Trigger: refuse to delete a drop that has reservations.';
