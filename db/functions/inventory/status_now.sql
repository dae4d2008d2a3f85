-- inventory.status_now: the status of a drop by the clock: a scheduled drop is live from starts_at on, and ended from ends_at on.
--
-- Locks: none. Errors: none.

create or replace function inventory.status_now(p_drop inventory.drops)
returns text
language sql stable parallel safe
as $$
  select case
    when p_drop.status in ('scheduled', 'live') and p_drop.ends_at <= now() then 'ended'
    when p_drop.status = 'scheduled' and p_drop.starts_at <= now() then 'live'
    else p_drop.status
  end
$$;

comment on function inventory.status_now(inventory.drops) is 'The status of a drop by the clock, whatever the sweep has done.';
