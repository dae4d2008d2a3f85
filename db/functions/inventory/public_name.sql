-- inventory.public_name: a purchaser's name as everybody may see it.
--
-- p_names is PURCHASER_NAMES: full, initials ("Ann Lee" is "A. L.") or hidden. A name that looks like an e-mail address is never
-- shown whole, because people are written to there: "ann@example.com" is "a…".
--
-- Locks: none. Errors: none. Plans: PostgreSQL puts it into the statement of the caller, because it has no subquery of its own. A
-- call for each purchase of a batch would take a tenth of the time of the batch.

create or replace function inventory.public_name(p_username text, p_names text)
returns text
language sql immutable parallel safe
as $$
  select case
    when p_names = 'hidden' then 'Somebody'
    when p_names = 'initials' then inventory.initials(p_username)
    when p_username ~ '\S\s*[@＠﹫]\s*\S' then left(p_username, 1) || '…'
    else p_username
  end
$$;

comment on function inventory.public_name(text, text) is
'A purchaser''s name as everybody may see it, by PURCHASER_NAMES: full, initials or hidden. An e-mail address is never whole.';
