-- api.advance_drops: let the clock move drops on: scheduled to live at starts_at, live to ended at ends_at.
--
-- Locks: the drops concerned that are free; where none is, one of the busy ones, waited for half a second at most and with
-- nothing else held: a drop that is stormed from its first second on still turns live. Errors: none.

create or replace function api.advance_drops()
returns setof api.drop
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
declare
  v_due uuid[];
begin
  v_due := array(
    select d.id
    from inventory.drops d
    where (d.status = 'scheduled' and d.starts_at <= now()) or (d.status in ('scheduled', 'live') and d.ends_at <= now())
    for no key update skip locked
  );
  if cardinality(v_due) = 0 then
    v_due := array(
      select d.id
      from inventory.drops d
      where (d.status = 'scheduled' and d.starts_at <= now()) or (d.status in ('scheduled', 'live') and d.ends_at <= now())
      order by random() -- not the same one, perhaps stuck, each time
      limit 1
      for no key update
    );
  end if;
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
exception when lock_not_available then
  return; -- the next call tries again
end
$$;

comment on function api.advance_drops() is
'Move on the drops whose time has come, scheduled to live and live to ended, and return them.';
