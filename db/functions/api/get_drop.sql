-- api.get_drop: return one drop, in any status.
--
-- Locks: none. Errors: DROP_NOT_FOUND.

create or replace function api.get_drop(p_drop_id uuid)
returns setof api.drop_row
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select r.* from inventory.drops d cross join lateral inventory.drop_row(d) r where d.id = p_drop_id;
  if not found then
    perform inventory.refuse('DROP_NOT_FOUND');
  end if;
end
$$;

comment on function api.get_drop(uuid) is 'Return one drop, in any status.';
