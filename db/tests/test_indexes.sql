-- Every query that runs per request has its index, and the hot row of a drop can be updated without touching any.
begin;
select plan(20);

-- An index as "unique? (columns) predicate?".
create function pg_temp.index_of(p_index text) returns text language sql stable as $$
  select concat_ws(
    ' ',
    case when i.indisprimary then 'primary' when i.indisunique then 'unique' end,
    '(' || (
      select string_agg(
        pg_get_indexdef(i.indexrelid, k, true) || case when i.indoption[k - 1] & 1 = 1 then ' desc' else '' end, ', ' order by k)
      from generate_series(1, i.indnkeyatts) as k
    ) || ')',
    'where ' || regexp_replace(pg_get_expr(i.indpred, i.indrelid), '::text|[()]', '', 'g'),
    case when not i.indisvalid then 'invalid' end
  )
  from pg_index i
  where i.indexrelid = to_regclass('inventory.' || p_index)
$$;

select is(pg_temp.index_of(v.index), v.expected, v.description)
from (values
  ('users_pkey', 'primary (id)', 'A user is known by its id.'),
  ('users_username_key', 'unique (inventory.name_key(username))', 'No two users have names that look alike.'),
  ('drops_pkey', 'primary (id)', 'A drop is known by its id.'),
  ('drops_active_idx', '(status, starts_at, ends_at)', 'The drops on sale are found by status and times.'),
  ('reservations_pkey', 'primary (id, drop_id)', 'A reservation is known by id and drop, and found by id alone.'),
  ('reservations_active_key', 'unique (drop_id, user_id) where status = ''ACTIVE''',
    'A user''s hold on a drop is found, and is one.'),
  ('reservations_idempotency_key', 'unique (drop_id, user_id, idempotency_key) where idempotency_key IS NOT NULL',
    'A repeated reserve is found by its key, and rows without a key cost the index nothing.'),
  ('reservations_due_idx', '(expires_at, drop_id) where status = ''ACTIVE'' AND expires_at IS NOT NULL',
    'Due holds are found in order of time, among ACTIVE reservations only.'),
  ('reservations_user_idx', '(user_id) where status = ''ACTIVE'' AND expires_at IS NOT NULL', 'A user''s holds are found.'),
  ('purchases_pkey', 'primary (id, drop_id)', 'A purchase is known by id and drop, and found by id alone.'),
  ('purchases_reservation_key', 'unique (reservation_id, drop_id)', 'The purchase of a reservation is found, and is one.'),
  ('purchases_idempotency_key', 'unique (drop_id, user_id, idempotency_key) where idempotency_key IS NOT NULL',
    'A repeated purchase is found by its key, and rows without a key cost the index nothing.'),
  ('purchases_latest_idx', '(drop_id, created_at desc, id desc) where status = ''paid''',
    'The latest purchasers of a drop are found, those of one batch too, paid only.'),
  ('purchases_user_idx', '(user_id, created_at desc)', 'A user''s purchases are found, newest first.'),
  ('events_pkey', 'primary (id, drop_id)', 'An event is known by id and drop; the log is read in the order of ids.'),
  ('events_drop_idx', '(drop_id, id)', 'So is the log of one drop.'),
  ('changes_pkey', 'primary (transaction_id, drop_id)', 'What a transaction did to a drop is noted once.')
) as v (index, expected, description);

select ok(
  (select c.reloptions @> array['fillfactor=20'] from pg_class c where c.oid = 'inventory.drops'::regclass),
  'A page of drops is filled to a fifth, which leaves room for many updates.'
);
-- Keys, expressions and predicates: an update of any column that an index depends on writes the index.
select is_empty(
  $$
    select d.objid::regclass, a.attname
    from pg_attribute a
    join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = a.attrelid and d.refobjsubid = a.attnum
    join pg_index i on d.classid = 'pg_class'::regclass and i.indexrelid = d.objid
    where a.attrelid = 'inventory.drops'::regclass and a.attname in ('available_stock', 'total_stock', 'updated_at')
  $$,
  'No index of drops depends on a column that a stock update changes.'
);
-- A reference would lock the drop's row: on every sale, or at a commit, when nothing but the log may be locked any more.
select is_empty(
  $$
    select c.conname from pg_constraint c
    where c.contype = 'f' and (
      c.conrelid in ('inventory.events'::regclass, 'inventory.changes'::regclass)
      or c.conrelid = 'inventory.purchases'::regclass and c.confrelid = 'inventory.drops'::regclass)
  $$,
  'Purchases have no foreign key to drops; events and changes have none at all.'
);

select * from finish();
rollback;
