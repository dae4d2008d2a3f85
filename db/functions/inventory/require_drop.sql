-- inventory.require_drop: raise DROP_NOT_FOUND if this drop does not exist.
--
-- Locks: none. Errors: DROP_NOT_FOUND.

create or replace function inventory.require_drop(p_drop_id uuid)
returns void
language plpgsql stable
as $$
begin
  if not exists (select from inventory.drops d where d.id = p_drop_id) then
    perform inventory.refuse('DROP_NOT_FOUND');
  end if;
end
$$;

comment on function inventory.require_drop(uuid) is 'Raise DROP_NOT_FOUND unless the drop exists.';
