-- inventory.note_earlier_end: trigger on reservations: a hold ends now or ended earlier, so the search for due holds of its drop
-- begins there.
--
-- Purpose: a change by hand may let a hold end earlier than all that were due. No function does that.
--
-- Locks: the drop's row, after that of the reservation. That is not the order of the functions, so a person who does this while a
-- sale runs locks the drop first. Errors: none.

create or replace function inventory.note_earlier_end()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- The lock comes first, because a reserve may have set a later time and not committed it yet.
  perform from inventory.drops d where d.id = new.drop_id for no key update;
  update inventory.drops d
  set nothing_due_before = new.expires_at
  where d.id = new.drop_id and d.nothing_due_before > new.expires_at;
  return null;
end
$$;

comment on function inventory.note_earlier_end() is 'Trigger: let the search for due holds begin at the end of this one.';
