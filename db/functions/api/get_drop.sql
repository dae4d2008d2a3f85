-- api.get_drop: return one drop, in any status. Only a seller finds a draft, or one that was cancelled as a draft.
--
-- The service acts for sellers and for the public; for the public it calls with p_drafts false.
--
-- Locks: none. Errors: DROP_NOT_FOUND.

create or replace function api.get_drop(p_drop_id uuid, p_drafts boolean default true)
returns setof api.drop_row
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select r.*
  from inventory.drops d
  cross join lateral inventory.drop_row(d) r
  where d.id = p_drop_id and (inventory.is_public(d) or (p_drafts and inventory.may_see_drafts()));
  if not found then
    perform inventory.refuse('DROP_NOT_FOUND');
  end if;
end
$$;

comment on function api.get_drop(uuid, boolean) is
'Return one drop, in any status. A draft is found by a seller only, and not with p_drafts false.';
