-- inventory.is_active: is a drop on sale at this transaction's time?
--
-- Locks: none. Errors: none.
--
-- The times decide, not only the status: a scheduled drop sells from starts_at on, a live one no longer after ends_at,
-- whether or not api.advance_drops has been by.

create or replace function inventory.is_active(p_drop inventory.drops)
returns boolean
language sql stable parallel safe
as $$
  select coalesce(
    p_drop.status in ('scheduled', 'live')
      and p_drop.starts_at <= now()
      and (p_drop.ends_at is null or p_drop.ends_at > now()),
    false)
$$;

comment on function inventory.is_active(inventory.drops) is 'Is this drop on sale now? A drop that does not exist is not.';
