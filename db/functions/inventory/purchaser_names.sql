-- inventory.purchaser_names: how purchasers' names are shown: full, initials or hidden.
--
-- Purpose: names are shortened when an event is written and not when it is read, because the log and the notifications are read by
-- every process and by every role that may call api.events_after.
--
-- Locks: none. Errors: none. Plans: the condition lets the index serve where sequential scans are off, see db/README.md.

create or replace function inventory.purchaser_names()
returns text
language sql stable
as $$
  select s.purchaser_names from inventory.settings s where s.is_only
$$;

comment on function inventory.purchaser_names() is 'How purchasers'' names are shown: full, initials or hidden.';
