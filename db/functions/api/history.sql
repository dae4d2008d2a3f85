-- api.history: what sellers did to a drop, who and when, the newest first, in pages.
--
-- The rows are those of inventory.drop_changes, to which rows are only added. What buyers did is in the lists of the drop, and for
-- one hold in api.reservation_history.
--
-- Locks: none. Errors: DROP_NOT_FOUND, VALIDATION_ERROR (limit).

create or replace function api.history(p_drop_id uuid, p_limit integer default 50, p_before bigint default null)
returns table (id bigint, at timestamptz, action text, user_id uuid, username text, db_user text, details jsonb)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform inventory.check_limit(p_limit);
  return query
  select c.id, c.created_at, c.action, c.changed_by, u.username, c.db_user, c.details
  from inventory.drop_changes c
  left join inventory.users u on u.id = c.changed_by
  where c.drop_id = p_drop_id and c.id < coalesce(p_before, 9223372036854775807)
  order by c.id desc
  limit p_limit;
  if not found then
    perform inventory.require_drop(p_drop_id);
  end if;
end
$$;

comment on function api.history(uuid, integer, bigint) is
'Show who did what to a drop, the newest first: p_limit rows, of ids less than p_before.';
