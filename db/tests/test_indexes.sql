-- Every query that runs per request has its index, and the hot row of a drop can be updated without touching any.
begin;
select plan(42);

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
  ('reservations_active_key', 'unique (drop_id, user_id, variant_id) where status = ''ACTIVE'' AND drop_id IS NOT NULL AND user_id IS NOT NULL',
    'A user''s hold on a drop or a variant is found, and is one.'),
  ('reservations_idempotency_key', 'unique (drop_id, user_id, idempotency_key) where idempotency_key IS NOT NULL',
    'A repeated reserve is found by its key, and rows without a key cost the index nothing.'),
  ('reservations_due_idx', '(drop_id, expires_at) where status = ''ACTIVE'' AND expires_at IS NOT NULL AND drop_id IS NOT NULL',
    'The due holds of a drop are found in order of time, among ACTIVE reservations only.'),
  ('reservations_lapsed_idx', '(drop_id, user_id, id) where status = ANY ARRAY[''EXPIRED'', ''CANCELLED'']',
    'What became of a user''s holds of a drop is found.'),
  ('reservations_basket_idx', '(basket_id) where basket_id IS NOT NULL', 'The holds of a basket are found.'),
  ('purchases_of_user_idx', '(drop_id, user_id) where status = ANY ARRAY[''pending'', ''paid''] AND user_id IS NOT NULL',
    'What a user has bought of a drop is counted for its limit.'),
  ('variants_pkey', 'primary (drop_id, id)', 'The variants of a drop are found together.'),
  ('variants_name_key', 'unique (drop_id, name)', 'A variant of a drop is found by its name, and is one.'),
  ('reservations_user_idx', '(user_id) where status = ''ACTIVE'' AND expires_at IS NOT NULL AND user_id IS NOT NULL',
    'A user''s holds are found.'),
  ('purchases_pkey', 'primary (id, drop_id)', 'A purchase is known by id and drop, and found by id alone.'),
  ('purchases_reservation_key', 'unique (reservation_id, drop_id)', 'The purchase of a reservation is found, and is one.'),
  ('purchases_idempotency_key', 'unique (drop_id, user_id, idempotency_key) where idempotency_key IS NOT NULL',
    'A repeated purchase is found by its key, and rows without a key cost the index nothing.'),
  ('purchases_latest_idx', '(drop_id, created_at desc, id desc) where status = ''paid''',
    'The latest purchasers of a drop are found, those of one batch too, paid only.'),
  ('purchases_user_idx', '(user_id, created_at desc)', 'A user''s purchases are found, newest first.'),
  ('reservations_past_idx', '(drop_id, status, created_at desc) where status <> ''ACTIVE'' AND created_at IS NOT NULL',
    'The past reservations of a drop are found by status, newest first.'),
  ('purchases_unpaid_idx', '(drop_id, status, created_at desc) where status <> ''paid'' AND created_at IS NOT NULL',
    'The purchases of a drop that are not paid are found by status, newest first.'),
  ('purchases_due_idx',
    '(drop_id, payment_expires_at) where status = ''pending'' AND payment_expires_at IS NOT NULL AND drop_id IS NOT NULL',
    'The pending purchases of a drop whose payment is due are found in order of time.'),
  ('purchases_payment_idx', '(payment_id, id) where payment_id IS NOT NULL', 'The purchases of a payment are found, and sales without one cost the index nothing.'),
  ('purchases_refunded_idx', '(drop_id, refunded_at) where refunded_qty > 0', 'The refunds of a drop are found by time, for charts.'),
  ('purchases_of_payments_idx', '(drop_id, created_at desc, payment_id desc) where payment_id IS NOT NULL',
    'The payments of a drop are found, newest first.'),
  ('payments_pkey', 'primary (id)', 'A payment is known by its id,'),
  ('payments_provider_reference_key', 'unique (provider, provider_reference)', 'and by the id at its provider.'),
  ('payments_created_at_idx', '(created_at desc, id desc)', 'All payments are found, newest first.'),
  ('payments_unsettled_idx', '(id) where status <> ''paid'' OR refunded_amount > 0::numeric AND updated_at IS NOT NULL', 'Reconciliation finds what it compares.'),
  ('payment_events_event_id_key', 'unique (provider, event_id)', 'An event of a provider is found by its id, and is one.'),
  ('payment_events_payment_idx', '(payment_id, id) where payment_id IS NOT NULL', 'The events of a payment are found.'),
  ('payment_events_flagged_at_idx', '(received_at desc, id desc) where outcome = ''flagged''', 'Problems are found, newest first,'),
  ('payment_events_flagged_idx', '(id desc) where outcome = ''flagged''', 'and those after an id.'),
  ('webhook_deliveries_created_at_idx', '(endpoint_id, created_at desc, id desc)', 'The deliveries of an endpoint are found, newest first.'),
  ('provider_calls_next_idx', '(next_attempt_at) where done_at IS NULL AND gave_up_at IS NULL',
    'Open calls to providers are found by the time of their next attempt.'),
  ('provider_calls_payment_idx', '(payment_id, id)', 'The calls of a payment are found in their order.'),
  ('events_pkey', 'primary (id, drop_id)', 'An event is known by id and drop; the log is read in the order of ids.'),
  ('events_drop_idx', '(drop_id, id)', 'So is the log of one drop.'),
  ('changes_pkey', 'primary (transaction_id, drop_id)', 'What a transaction did to a drop is noted once.')
) as v (index, expected, description);

select ok(
  (select bool_and(c.reloptions @> array['fillfactor=20']) from pg_class c
    where c.oid in ('inventory.drops'::regclass, 'inventory.variants'::regclass)),
  'A page of drops or variants is filled to a fifth, which leaves room for many updates.'
);
-- Keys, expressions and predicates: an update of any column that an index depends on writes the index.
select is_empty(
  $$
    select d.objid::regclass, a.attname
    from pg_attribute a
    join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = a.attrelid and d.refobjsubid = a.attnum
    join pg_index i on d.classid = 'pg_class'::regclass and i.indexrelid = d.objid
    where a.attrelid in ('inventory.drops'::regclass, 'inventory.variants'::regclass)
      and a.attname in ('available_stock', 'total_stock', 'updated_at', 'nothing_due_before')
  $$,
  'No index of drops or variants depends on a column that a stock update changes.'
);
-- A reference would lock the drop's row: on every sale, or at a commit, when nothing but the log may be locked any more.
select is_empty(
  $$
    select c.conname from pg_constraint c
    where c.contype = 'f' and (
      c.conrelid in ('inventory.events'::regclass, 'inventory.changes'::regclass)
      or c.conrelid in ('inventory.reservations'::regclass, 'inventory.purchases'::regclass)
        and c.confrelid in ('inventory.drops'::regclass, 'inventory.variants'::regclass))
  $$,
  'Holds and purchases have no foreign key to drops or variants; events and changes have none at all.'
);

select * from finish();
rollback;
