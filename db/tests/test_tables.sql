-- The tables have the columns, defaults, triggers and comments that the functions and a later distribution by drop_id rest on.
begin;
select plan(15);

select is(
  (
    select array_agg(
      concat_ws(
        ' ', a.attname, format_type(a.atttypid, a.atttypmod), case when a.attnotnull then 'not null' end,
        case when a.attidentity = 'a' then 'identity' end, 'default ' || pg_get_expr(d.adbin, d.adrelid))
      order by a.attnum)
    from pg_attribute a
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = ('inventory.' || v.name)::regclass and a.attnum > 0 and not a.attisdropped
  ),
  v.columns, v.description
)
from (values
  (
    'users',
    array[
      'id uuid not null default inventory.uuid_v7()', 'username text not null',
      'created_at timestamp with time zone not null default now()', 'updated_at timestamp with time zone not null default now()',
      'forgotten_at timestamp with time zone'
    ],
    'A user has an id, which sorts by time of birth, a username, and times, most of which are the transaction''s.'
  ),
  (
    'drops',
    array[
      'id uuid not null default inventory.uuid_v7()', 'name inventory.drop_name not null', 'price inventory.drop_price not null',
      'total_stock inventory.drop_total_stock not null', 'available_stock integer not null', 'starts_at inventory.drop_starts_at',
      'ends_at inventory.drop_ends_at', 'status inventory.drop_status not null', 'created_by uuid not null',
      'created_at timestamp with time zone not null default now()', 'updated_at timestamp with time zone not null default now()',
      'currency inventory.drop_currency not null default ''USD''::text', 'limit_per_user inventory.drop_limit_per_user',
      'hold_seconds inventory.drop_hold_seconds', 'rehold_after_seconds inventory.drop_rehold_after_seconds not null default 0',
      'extension_seconds inventory.drop_extension_seconds', 'paused_at timestamp with time zone',
      'nothing_due_before timestamp with time zone not null default ''infinity''::timestamp with time zone',
      'revision integer not null default 1', 'was_published boolean not null default false',
      'image_url inventory.drop_image_url'
    ],
    'A drop has a price of as many decimals as its currency has, its stock, its times, its seller, its terms and a picture.'
  ),
  (
    'variants',
    array[
      'id uuid not null default inventory.uuid_v7()', 'drop_id uuid not null', 'name text not null', 'price numeric',
      'total_stock integer not null', 'available_stock integer not null', 'position integer not null',
      'created_at timestamp with time zone not null default now()', 'updated_at timestamp with time zone not null default now()'
    ],
    'A variant belongs to a drop. It has a name, perhaps a price, its stock and its place.'
  ),
  (
    'reservations',
    array[
      'id uuid not null default inventory.uuid_v7()', 'drop_id uuid not null', 'user_id uuid not null',
      'status text not null default ''ACTIVE''::text', 'expires_at timestamp with time zone not null', 'idempotency_key text',
      'created_at timestamp with time zone not null default now()', 'updated_at timestamp with time zone not null default now()',
      'variant_id uuid', 'qty integer not null default 1', 'unit_price numeric', 'currency text', 'basket_id uuid',
      'extended_at timestamp with time zone'
    ],
    'A reservation belongs to a drop and a user, always has an end, and is ACTIVE and of one unit unless told.'
  ),
  (
    'purchases',
    array[
      'id uuid not null default inventory.uuid_v7()', 'drop_id uuid not null', 'reservation_id uuid not null',
      'user_id uuid not null', 'qty integer not null default 1', 'status text not null', 'idempotency_key text',
      'created_at timestamp with time zone not null default now()', 'updated_at timestamp with time zone not null default now()',
      'variant_id uuid', 'unit_price numeric', 'amount numeric', 'currency text', 'refunded_amount numeric',
      'refunded_at timestamp with time zone', 'payment_id uuid', 'refunded_qty integer not null default 0',
      'payment_expires_at timestamp with time zone'
    ],
    'A purchase belongs to a drop, a reservation and a user, and keeps what a unit cost and what was refunded.'
  ),
  (
    'events',
    array[
      'id bigint not null identity', 'drop_id uuid not null', 'type text not null', 'data json not null',
      'created_at timestamp with time zone not null default clock_timestamp()', 'user_id uuid'
    ],
    'An event belongs to a drop. No caller chooses its id; its time is when it was published, which rises with its id.'
  ),
  (
    'changes',
    array[
      'transaction_id xid8 not null default pg_current_xact_id()', 'drop_id uuid not null',
      'is_created boolean not null default false', 'is_updated boolean not null default false',
      'is_stock_updated boolean not null default false', 'is_activity_updated boolean not null default false',
      'expired_ids uuid[] not null default ''{}''::uuid[]', 'purchased_ids uuid[] not null default ''{}''::uuid[]',
      'variant_ids uuid[] not null default ''{}''::uuid[]', 'added_total bigint not null default 0',
      'added_available bigint not null default 0', 'added_held bigint not null default 0', 'added_sold bigint not null default 0',
      'was_public boolean', 'updated_payment_ids uuid[] not null default ''{}''::uuid[]',
      'changed_purchase_ids uuid[]', 'is_cancelled boolean', 'variant_balance numeric not null default 0'
    ],
    'A change belongs to the transaction that notes it, and to a drop. It adds up by how many units each side moved.'
  ),
  (
    'registered_names', array['name_key text not null', 'user_id uuid not null'],
    'A name that this node keeps for all is a user''s, who need not be known here.'
  )
) as v (name, columns, description);

select is(
  (select s.seqcache from pg_sequence s where s.seqrelid = pg_get_serial_sequence('inventory.events', 'id')::regclass), 1::bigint,
  'No session keeps ids for later, so they are drawn in order.'
);
select is(
  (select array_agg(concat_ws(' ', c.relname, c.relpersistence) order by c.relname) from pg_class c
    where c.oid in ('inventory.changes'::regclass, 'inventory.events'::regclass)),
  array['changes u', 'events p'],
  'Events survive a crash. Changes are not written to the log of the server, because none outlives its transaction.'
);

-- The triggers that keep the log.
select is(
  (
    select array_agg(
      format('%s %s %s', t.tgrelid::regclass, t.tgname, case
        when t.tgdeferrable and t.tginitdeferred then 'at the commit, each row'
        when t.tgtype & 1 = 1 then 'each row'
        else 'each statement'
      end)
      order by t.tgrelid::regclass::text, t.tgname)
    from pg_trigger t
    join pg_class c on c.oid = t.tgrelid and c.relnamespace = 'inventory'::regnamespace
    where not t.tgisinternal and t.tgenabled = 'O'
  ),
  array[
    'inventory.changes changes_announce at the commit, each row',
    'inventory.drop_changes drop_changes_keep each statement',
    'inventory.drops drops_delete_keep each row', 'inventory.drops drops_delete_note each row',
    'inventory.drops drops_insert_note each row', 'inventory.drops drops_raise_revision each row',
    'inventory.drops drops_stock_note each statement', 'inventory.drops drops_truncate_keep each statement',
    'inventory.drops drops_update_note each row', 'inventory.payment_events payment_events_keep each statement',
    'inventory.payment_events payment_events_tell at the commit, each row',
    'inventory.payments payments_insert_note each statement', 'inventory.payments payments_update_note each statement',
    'inventory.purchases purchases_delete_note each statement', 'inventory.purchases purchases_earlier_end each row',
    'inventory.purchases purchases_hold_check each row',
    'inventory.purchases purchases_insert_note each statement', 'inventory.purchases purchases_truncate_keep each statement',
    'inventory.purchases purchases_update_note each statement',
    'inventory.reservations reservations_delete_keep each row',
    'inventory.reservations reservations_delete_note each statement', 'inventory.reservations reservations_earlier_end each row',
    'inventory.reservations reservations_insert_note each statement',
    'inventory.reservations reservations_truncate_keep each statement',
    'inventory.reservations reservations_update_keep each row',
    'inventory.reservations reservations_update_note each statement', 'inventory.reservations reservations_user_check each row',
    'inventory.users users_delete_keep each row', 'inventory.users users_rename_note each row',
    'inventory.users users_truncate_keep each statement', 'inventory.users users_update_keep each row',
    'inventory.variants variants_delete_note each statement', 'inventory.variants variants_insert_note each statement',
    'inventory.variants variants_truncate_keep each statement', 'inventory.variants variants_update_note each statement',
    'inventory.webhook_endpoints webhook_endpoints_note each statement'
  ],
  'Statements note what they do, and the commit publishes it.'
);

-- The law that lets the schema be distributed by drop_id: a table that refers to a drop, or to a table that does, is below drops;
-- so are the two of the log, and reservations and purchases, which have no foreign key, because it would be checked for each row.
create temp table below_drops on commit drop as
with recursive below (oid) as (
  select unnest(array[
    'inventory.drops'::regclass, 'inventory.reservations'::regclass, 'inventory.purchases'::regclass,
    'inventory.events'::regclass, 'inventory.changes'::regclass])::oid
  union
  select c.conrelid from pg_constraint c join below b on c.confrelid = b.oid where c.contype = 'f'
)
select oid from below where oid <> 'inventory.drops'::regclass;

select bag_eq(
  'select oid::regclass::text from below_drops',
  array['inventory.variants', 'inventory.reservations', 'inventory.purchases', 'inventory.events', 'inventory.changes'],
  'Variants, reservations, purchases and the log are below drops.'
);
select is_empty(
  $$
    select i.indexrelid::regclass
    from below_drops b
    join pg_index i on i.indrelid = b.oid and i.indisunique
    left join pg_attribute a on a.attrelid = b.oid and a.attname = 'drop_id'
    where (a.attnum = any (i.indkey::smallint[])) is not true
  $$,
  'Every primary and unique key below drops has drop_id in it.'
);
select is_empty(
  $$
    select c.conname
    from below_drops b
    join pg_constraint c on c.conrelid = b.oid and c.contype = 'f' and c.confrelid in (select oid from below_drops)
    left join pg_attribute a on a.attrelid = b.oid and a.attname = 'drop_id'
    where (a.attnum = any (c.conkey)) is not true
  $$,
  'Every foreign key between tables below drops has drop_id in it.'
);

select is_empty(
  $$
    select format('schema %s', n.nspname) from unnest(array['inventory', 'api']) as n (nspname)
    where obj_description(to_regnamespace(n.nspname), 'pg_namespace') is null
    union all
    select c.oid::regclass::text
    from pg_class c
    where c.relnamespace = 'inventory'::regnamespace and c.relkind in ('r', 'p') and obj_description(c.oid, 'pg_class') is null
  $$,
  'There are two schemas, and each of them and every table says what it holds.'
);

select * from finish();
rollback;
