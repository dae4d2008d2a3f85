-- inventory.is_on_sale: whether a drop is on sale at the time of this transaction.
--
-- The times decide, not only the status: a scheduled drop sells from starts_at on, and a live one does not sell after ends_at,
-- even if api.advance_drops has not changed the status yet. A paused drop does not sell.
--
-- Locks: none. Errors: none.

create or replace function inventory.is_on_sale(p_drop inventory.drops)
returns boolean
language sql stable parallel safe
as $$
  select coalesce(
    p_drop.status in ('scheduled', 'live')
      and p_drop.paused_at is null
      and p_drop.starts_at <= now()
      and (p_drop.ends_at is null or p_drop.ends_at > now()),
    false)
$$;

comment on function inventory.is_on_sale(inventory.drops) is 'Is this drop on sale now? A null drop (none was found) is not.';
