-- The tables have the columns, keys and comments that the functions and a later distribution by drop_id rest on.
begin;
select plan(37);

create function pg_temp.columns_of(p_table text) returns text[] language sql stable as $$
  select array_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), case when a.attnotnull then 'not null' end)
    order by a.attnum)
  from pg_attribute a
  where a.attrelid = p_table::regclass and a.attnum > 0 and not a.attisdropped
$$;

create function pg_temp.default_of(p_table text, p_column text) returns text language sql stable as $$
  select pg_get_expr(d.adbin, d.adrelid)
  from pg_attrdef d
  join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
  where d.adrelid = p_table::regclass and a.attname = p_column
$$;

select has_schema('inventory', 'There is a schema for tables and private functions.');
select has_schema('api', 'There is a schema for public functions.');

select is(
  pg_temp.columns_of('inventory.users'),
  array[
    'id uuid not null', 'username text not null', 'created_at timestamp with time zone not null',
    'updated_at timestamp with time zone not null'
  ],
  'A user has an id and a username.'
);
select is(
  pg_temp.columns_of('inventory.drops'),
  array[
    'id uuid not null', 'name text not null', 'price numeric(12,2) not null', 'total_stock integer not null',
    'available_stock integer not null', 'starts_at timestamp with time zone', 'ends_at timestamp with time zone',
    'status text not null', 'created_by uuid not null', 'created_at timestamp with time zone not null',
    'updated_at timestamp with time zone not null'
  ],
  'A drop has a price to the cent, its stock, its times and its seller.'
);
select is(
  pg_temp.columns_of('inventory.reservations'),
  array[
    'id uuid not null', 'drop_id uuid not null', 'user_id uuid not null', 'status text not null',
    'expires_at timestamp with time zone not null', 'idempotency_key text', 'created_at timestamp with time zone not null',
    'updated_at timestamp with time zone not null'
  ],
  'A reservation belongs to a drop and a user and always has an end.'
);
select is(
  pg_temp.columns_of('inventory.purchases'),
  array[
    'id uuid not null', 'drop_id uuid not null', 'reservation_id uuid not null', 'user_id uuid not null', 'qty integer not null',
    'status text not null', 'idempotency_key text', 'created_at timestamp with time zone not null',
    'updated_at timestamp with time zone not null'
  ],
  'A purchase belongs to a drop, a reservation and a user.'
);
select is(
  pg_temp.columns_of('inventory.events'),
  array[
    'id bigint not null', 'drop_id uuid not null', 'type text not null', 'data json not null',
    'created_at timestamp with time zone not null'
  ],
  'An event belongs to a drop and says what happened.'
);
select is(
  pg_temp.columns_of('inventory.changes'),
  array[
    'transaction_id xid8 not null', 'drop_id uuid not null', 'is_created boolean not null', 'is_updated boolean not null',
    'is_stock_updated boolean not null', 'is_activity_updated boolean not null', 'expired_ids uuid[] not null',
    'purchased_ids uuid[] not null'
  ],
  'A change belongs to a transaction and a drop.'
);

select is(pg_temp.default_of('inventory.' || t.name, 'id'), 'inventory.uuid_v7()',
  format('The ids of %s sort by time of birth.', t.name))
from unnest(array['users', 'drops', 'reservations', 'purchases']) as t (name);
select is(
  array[pg_temp.default_of('inventory.' || t.name, 'created_at'), pg_temp.default_of('inventory.' || t.name, 'updated_at')],
  array['now()', 'now()'],
  format('The times of a new row of %s are the transaction''s.', t.name)
)
from unnest(array['users', 'drops', 'reservations', 'purchases']) as t (name);
select is(pg_temp.default_of('inventory.reservations', 'status'), '''ACTIVE''::text', 'A new reservation is ACTIVE.');
select is(pg_temp.default_of('inventory.purchases', 'qty'), '1', 'A new purchase is of one unit.');
select is(
  (select a.attidentity from pg_attribute a where a.attrelid = 'inventory.events'::regclass and a.attname = 'id'), 'a',
  'Nobody chooses the id of an event.'
);
select is(
  (select s.seqcache from pg_sequence s where s.seqrelid = pg_get_serial_sequence('inventory.events', 'id')::regclass), 1::bigint,
  'No session keeps ids for later, so they are drawn in order.'
);
select is(
  pg_temp.default_of('inventory.events', 'created_at'), 'clock_timestamp()',
  'The time of an event is when it was published, which rises with its id.'
);
select is(
  pg_temp.default_of('inventory.changes', 'transaction_id'), 'pg_current_xact_id()',
  'A change is of the transaction that notes it.'
);
select is(
  (select c.relpersistence from pg_class c where c.oid = 'inventory.changes'::regclass), 'u',
  'Changes are not written to the log of the server, for none outlives its transaction.'
);
select is(
  (select c.relpersistence from pg_class c where c.oid = 'inventory.events'::regclass), 'p', 'Events survive a crash.'
);

select col_is_pk('inventory', 'users', array['id'], 'A user is known by its id.');
select col_is_pk('inventory', 'drops', array['id'], 'A drop is known by its id.');
select col_is_pk('inventory', 'reservations', array['id', 'drop_id'], 'A reservation is known by its id and its drop.');
select col_is_pk('inventory', 'purchases', array['id', 'drop_id'], 'A purchase is known by its id and its drop.');
select col_is_pk('inventory', 'events', array['id', 'drop_id'], 'An event is known by its id and its drop.');
select col_is_pk(
  'inventory', 'changes', array['transaction_id', 'drop_id'], 'A change is known by its transaction and its drop.'
);

-- A reference would lock the drop's row, in a moment when nothing but the log may be locked any more.
select is_empty(
  $$
    select c.conname from pg_constraint c
    where c.contype = 'f' and c.conrelid in ('inventory.events'::regclass, 'inventory.changes'::regclass)
  $$,
  'Events and changes refer to nothing.'
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
    'inventory.changes changes_publish at the commit, each row', 'inventory.drops drops_insert_note each row',
    'inventory.drops drops_update_note each row', 'inventory.purchases purchases_insert_note each statement',
    'inventory.purchases purchases_update_note each statement', 'inventory.reservations reservations_update_note each statement'
  ],
  'Statements note what they do, and the commit publishes it.'
);

-- The law that lets the schema be distributed by drop_id. What refers to a drop, or to what refers to one, is below drops.
create temp table below_drops on commit drop as
with recursive below (oid) as (
  select 'inventory.drops'::regclass::oid
  union
  select c.conrelid from pg_constraint c join below b on c.confrelid = b.oid where c.contype = 'f'
)
select oid from below where oid <> 'inventory.drops'::regclass;

select is_empty(
  $$
    select i.indexrelid::regclass
    from pg_index i
    join pg_attribute a on a.attrelid = i.indrelid and a.attname = 'drop_id'
    where i.indrelid in ('inventory.events'::regclass, 'inventory.changes'::regclass) and i.indisunique
      and not a.attnum = any (i.indkey::smallint[])
  $$,
  'Every unique key of the log has drop_id in it.'
);
select ok(
  (select array_agg(oid) @> array['inventory.reservations'::regclass::oid, 'inventory.purchases'::regclass::oid]
    from below_drops),
  'Reservations and purchases are below drops.'
);
select is_empty(
  $$
    select i.indexrelid::regclass
    from below_drops b
    join pg_index i on i.indrelid = b.oid and i.indisunique
    join pg_attribute a on a.attrelid = b.oid and a.attname = 'drop_id'
    where not a.attnum = any (i.indkey::smallint[])
  $$,
  'Every primary and unique key below drops has drop_id in it.'
);
select is_empty(
  $$
    select c.conname
    from below_drops b
    join pg_constraint c on c.conrelid = b.oid and c.contype = 'f' and c.confrelid in (select oid from below_drops)
    join pg_attribute a on a.attrelid = b.oid and a.attname = 'drop_id'
    where not a.attnum = any (c.conkey)
  $$,
  'Every foreign key between tables below drops has drop_id in it.'
);

select is_empty(
  $$
    select c.oid::regclass
    from pg_class c
    where c.relnamespace = 'inventory'::regnamespace and c.relkind in ('r', 'p') and obj_description(c.oid, 'pg_class') is null
  $$,
  'Every table says what it holds.'
);

select * from finish();
rollback;
