-- inventory.initials: the first letters of the first three words of a name: "Ann Lee" is "A. L.".
--
-- Locks: none. Errors: none.

create or replace function inventory.initials(p_name text)
returns text
language sql immutable parallel safe
as $$
  select string_agg(upper(left(w.word, 1)) || '.', ' ' order by w.n)
  from regexp_split_to_table(btrim(p_name), '\s+') with ordinality as w (word, n)
  where w.n <= 3
$$;

comment on function inventory.initials(text) is 'The first letters of the first three words of a name.';
