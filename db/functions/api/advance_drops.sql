-- api.advance_drops: start and end drops by the clock: scheduled becomes live at starts_at, live becomes ended at ends_at.
--
-- Locks: the rows of the drops whose time has come, except rows that another transaction has locked. If all of them are locked,
-- the function waits up to half a second for one of them. It holds no other lock meanwhile. Without this wait a drop that is busy
-- from the first second would stay scheduled.
-- Errors: none. If the wait was too long it returns no row, and the next call tries again.

create or replace function api.advance_drops()
returns setof api.drop_row
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
      order by random() -- another drop each time, because one of them may be stuck
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
  select r.* from advanced cross join lateral inventory.drop_row(advanced) r;
exception when lock_not_available then
  return; -- the next call will try again
end
$$;

comment on function api.advance_drops() is
'Start and end the drops whose time has come (scheduled to live, live to ended) and return them.';
