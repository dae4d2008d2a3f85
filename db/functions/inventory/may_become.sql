-- inventory.may_become: whether a drop may change from one status to another: the state machine of drops.
--
--   draft ──▶ scheduled ──▶ live ──▶ ended
--         ◀──
--
-- Besides: a draft may go live at once, a scheduled drop may be ended before it starts, and all three may be cancelled. ended and
-- cancelled are final. A scheduled drop whose starts_at has passed counts as live: the calling function passes 'live' as p_from.
--
-- Locks: none. Errors: none.

create or replace function inventory.may_become(p_from text, p_to text)
returns boolean
language sql immutable parallel safe
as $$
  select p_from = p_to or (p_from, p_to) in (
    ('draft', 'scheduled'), ('draft', 'live'), ('draft', 'cancelled'),
    ('scheduled', 'draft'), ('scheduled', 'live'), ('scheduled', 'ended'), ('scheduled', 'cancelled'),
    ('live', 'ended'), ('live', 'cancelled')
  )
$$;

comment on function inventory.may_become(text, text) is 'May a drop in status p_from be given the status p_to?';
