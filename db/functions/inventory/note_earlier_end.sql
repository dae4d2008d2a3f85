-- inventory.note_earlier_end: trigger on reservations: a hold ends earlier than before, or is ACTIVE again, so the search for due holds
-- of its drop begins there if it began later.
--
-- Purpose: only a change by hand does that. Of new holds inventory.write_holds and inventory.note_reservations see to it.
--
-- Locks: the drop's row, after that of the reservation. That is not the order of the functions, so a person who does this while a
-- sale runs locks the drop first. Errors: none.

create or replace function inventory.note_earlier_end()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform inventory.expect_due_at(array[new.drop_id], array[new.expires_at]);
  return null;
end
$$;

comment on function inventory.note_earlier_end() is 'Trigger: let the search for due holds begin at the end of this one.';
