-- migrate:up

-- The core of Lastpair: the schemas and the role lastpair_api, the four tables that sell a drop, and the row types of the API.
-- Rules for values are constraints. The comment of a check is the sentence that a caller is told when the check refuses a value.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

create schema inventory;
create schema api;
comment on schema inventory is 'Tables, private functions and triggers. Nobody but the owner touches it.';
comment on schema api is 'The public functions and the row types they return. \df+ api.* explains each one.';

-- A role belongs to the whole server. Another database of the server may have made it already, so the down migration keeps it.
do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'lastpair_api') then
    create role lastpair_api nologin;
  end if;
exception when duplicate_object or unique_violation then
  null; -- another migration has made the role at the same moment
end
$$;

-- The app logs in as the owner and works as lastpair_api, so the role that migrates must be able to become lastpair_api.
do $$
begin
  execute pg_catalog.format('grant lastpair_api to %I', current_user);
exception when insufficient_privilege then
  if not pg_catalog.pg_has_role('lastpair_api', 'usage') then
    raise;
  end if;
end
$$;

grant usage on schema api to lastpair_api;

-- A UUIDv7 sorts by the time when it was made, so new rows are neighbours in every index. PostgreSQL 18 has it built in.
do $do$
begin
  if pg_catalog.current_setting('server_version_num')::integer >= 180000 then
    create function inventory.uuid_v7() returns uuid
      language sql volatile parallel safe
      begin atomic
        select pg_catalog.uuidv7();
      end;
  else
    -- Made from a random UUIDv4: its variant bits stay, its first 48 bits become milliseconds, its version digit becomes 7.
    create function inventory.uuid_v7() returns uuid
      language sql volatile parallel safe
      as $$
        select pg_catalog.overlay(
          pg_catalog.replace(pg_catalog.gen_random_uuid()::text, '-', ''),
          pg_catalog.lpad(pg_catalog.to_hex((extract(epoch from pg_catalog.clock_timestamp()) * 1000)::bigint), 12, '0') || '7',
          1,
          13)::uuid
      $$;
  end if;
end
$do$;
comment on function inventory.uuid_v7() is 'A new UUIDv7: PostgreSQL''s own from 18 on, emulated below.';

-- The function files that the deployment has applied. It compares checksums and applies only the files that changed.
create table inventory.function_files (
  path text primary key,
  checksum text not null,
  applied_at timestamptz not null default now()
);
comment on table inventory.function_files is 'The files under db/functions as last applied, with the SHA-256 of each.';

create table inventory.users (
  id uuid primary key default inventory.uuid_v7(),
  username text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint users_username_key unique (username),
  constraint users_username_check check (char_length(username) <= 200 and username ~ '\S' and username !~ '[\u0001-\u001f\u007f-\u009f]')
);
comment on table inventory.users is 'Buyers and sellers.';
comment on constraint users_username_check on inventory.users is 'username: must be 1 to 200 characters, not all blank, without control characters';
comment on constraint users_username_key on inventory.users is 'username: is taken';

-- A drop has one hot row, which each batch updates once. A low fillfactor leaves room on its page, and no index contains
-- available_stock, so every update of the stock is HOT (heap-only: it writes no index).
create table inventory.drops (
  id uuid primary key default inventory.uuid_v7(),
  name text not null,
  price numeric(12, 2) not null,
  total_stock integer not null,
  available_stock integer not null,
  starts_at timestamptz,
  ends_at timestamptz,
  status text not null,
  created_by uuid not null constraint drops_created_by_fkey references inventory.users (id),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint drops_name_check check (char_length(name) <= 200 and name ~ '\S' and name !~ '[\u0001-\u001f\u007f-\u009f]'),
  constraint drops_price_check check (price >= 0),
  constraint drops_total_stock_check check (total_stock > 0),
  constraint drops_available_stock_check check (available_stock between 0 and total_stock),
  constraint drops_status_check check (status in ('draft', 'scheduled', 'live', 'ended', 'cancelled')),
  constraint drops_starts_at_check check (starts_at is not null or status not in ('scheduled', 'live')),
  constraint drops_ends_at_check check (ends_at > starts_at),
  constraint drops_starts_at_finite_check check (isfinite(starts_at)),
  constraint drops_ends_at_finite_check check (isfinite(ends_at))
) with (fillfactor = 20);
comment on table inventory.drops is 'What is sold. The row is the unit of contention: whoever changes its stock locks it first.';
comment on column inventory.drops.available_stock is 'Units neither held by an ACTIVE reservation nor sold.';
comment on constraint drops_name_check on inventory.drops is 'name: must be 1 to 200 characters, not all blank, without control characters';
comment on constraint drops_price_check on inventory.drops is 'price: must be 0 or more';
comment on constraint drops_total_stock_check on inventory.drops is 'total_stock: must be 1 or more';
comment on constraint drops_status_check on inventory.drops is 'status: must be draft, scheduled, live, ended or cancelled';
comment on constraint drops_starts_at_check on inventory.drops is 'starts_at: a scheduled or live drop needs one';
comment on constraint drops_starts_at_finite_check on inventory.drops is 'starts_at: must be a time, not infinity';
comment on constraint drops_ends_at_finite_check on inventory.drops is 'ends_at: must be a time, not infinity';
comment on constraint drops_ends_at_check on inventory.drops is 'ends_at: must be later than starts_at';

create index drops_active_idx on inventory.drops (status, starts_at, ends_at);

create table inventory.reservations (
  id uuid not null default inventory.uuid_v7(),
  drop_id uuid not null constraint reservations_drop_id_fkey references inventory.drops (id),
  user_id uuid not null constraint reservations_user_id_fkey references inventory.users (id),
  status text not null default 'ACTIVE',
  expires_at timestamptz not null,
  idempotency_key text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (id, drop_id),
  constraint reservations_status_check check (status in ('ACTIVE', 'EXPIRED', 'CANCELLED', 'CONSUMED')),
  constraint reservations_idempotency_key_check check (idempotency_key ~ '^[!-~]{1,255}$')
);
comment on table inventory.reservations is 'A unit held for a user until expires_at.';
comment on constraint reservations_idempotency_key_check on inventory.reservations is 'Idempotency-Key: must be 1 to 255 visible ASCII characters';

-- A drop starts with empty tables, where all indexes cost the planner the same, and a session keeps the plan that it made then.
-- So each hot query must find only one index that fits. The predicate "expires_at is not null" is true for every row; it is there
-- because it hides the two indexes from queries that do not compare expires_at. If two indexes still cost the same, the planner
-- takes the one that was made last, which here is the most selective.
create index reservations_due_idx on inventory.reservations (expires_at, drop_id) where status = 'ACTIVE' and expires_at is not null;
create index reservations_user_idx on inventory.reservations (user_id) where status = 'ACTIVE' and expires_at is not null;
create unique index reservations_idempotency_key on inventory.reservations (drop_id, user_id, idempotency_key)
  where idempotency_key is not null;
create unique index reservations_active_key on inventory.reservations (drop_id, user_id) where status = 'ACTIVE';
comment on index inventory.reservations_active_key is 'One ACTIVE reservation a user and drop.';
comment on index inventory.reservations_idempotency_key is 'A key belongs to one user on one drop.';
comment on index inventory.reservations_due_idx is 'What is due, over all drops (the sweep) or in one (a reserve that runs short).';

-- There is no foreign key to drops: the reservation has one, and a second one would lock the drop's row on every sale.
create table inventory.purchases (
  id uuid not null default inventory.uuid_v7(),
  drop_id uuid not null,
  reservation_id uuid not null,
  user_id uuid not null constraint purchases_user_id_fkey references inventory.users (id),
  qty integer not null default 1,
  status text not null,
  idempotency_key text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (id, drop_id),
  constraint purchases_reservation_key unique (reservation_id, drop_id),
  constraint purchases_reservation_fkey foreign key (reservation_id, drop_id) references inventory.reservations (id, drop_id),
  constraint purchases_qty_check check (qty > 0),
  constraint purchases_status_check check (status in ('pending', 'paid', 'failed', 'cancelled', 'refunded')),
  constraint purchases_idempotency_key_check check (idempotency_key ~ '^[!-~]{1,255}$')
);
comment on table inventory.purchases is 'A consumed reservation. Stock was taken when the unit was reserved.';
comment on constraint purchases_idempotency_key_check on inventory.purchases is 'Idempotency-Key: must be 1 to 255 visible ASCII characters';

create index purchases_latest_idx on inventory.purchases (drop_id, created_at desc) where status = 'paid';
create index purchases_user_idx on inventory.purchases (user_id, created_at desc);
create unique index purchases_idempotency_key on inventory.purchases (drop_id, user_id, idempotency_key)
  where idempotency_key is not null;
comment on index inventory.purchases_latest_idx is 'The latest purchasers of a drop.';

-- The row types of the API. Their column names are the field names on the wire.

create type api."user" as (
  id uuid,
  username text,
  "createdAt" timestamptz,
  "updatedAt" timestamptz
);

create type api.drop as (
  id uuid,
  name text,
  price numeric,
  total_stock integer,
  available_stock integer,
  starts_at timestamptz,
  ends_at timestamptz,
  status text,
  created_by uuid,
  "createdAt" timestamptz,
  "updatedAt" timestamptz
);

create type api.reservation as (
  id uuid,
  drop_id uuid,
  user_id uuid,
  status text,
  expires_at timestamptz,
  "createdAt" timestamptz,
  "updatedAt" timestamptz
);

create type api.purchase as (
  id uuid,
  drop_id uuid,
  reservation_id uuid,
  user_id uuid,
  qty integer,
  status text,
  "createdAt" timestamptz,
  "updatedAt" timestamptz
);

create type api.purchaser as (
  "userId" uuid,
  username text,
  qty integer,
  "createdAt" timestamptz
);

create type api.outcome as (
  n integer,
  status integer,
  code text,
  message text,
  replayed boolean,
  data json
);
comment on type api.outcome is 'What became of request number n of a batch: HTTP status; code and message when refused; data, the row, when served.';

-- migrate:down

-- squawk-ignore ban-drop-schema
drop schema api cascade;
-- squawk-ignore ban-drop-schema
drop schema inventory cascade;
