-- api.advance_drops: let the clock move drops on: scheduled to live at starts_at, live to ended at ends_at.
--
-- Locks: the drops concerned, in the order of their ids. Errors: none.

create or replace function api.advance_drops()
returns setof api.drop
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_due uuid[];
begin
  v_due := array(
    select d.id
    from inventory.drops d
    where (d.status = 'scheduled' and d.starts_at <= now()) or (d.status in ('scheduled', 'live') and d.ends_at <= now())
    order by d.id
    for no key update
  );
  if cardinality(v_due) = 0 then
    return;
  end if;
  return query
  with advanced as (
    update inventory.drops d
    set status = case when d.ends_at <= now() then 'ended' else 'live' end, updated_at = now()
    where d.id = any (v_due)
    returning d.*
  )
  select (inventory.drop_row(advanced)).* from advanced;
end
$$;

comment on function api.advance_drops() is
'Move on the drops whose time has come, scheduled to live and live to ended, and return them.';
