-- The tables of server.js: the fewest columns, keys and indexes that a service of its kind needs.

create schema holdfast;

create table holdfast.drops (
  id uuid primary key,
  total_stock integer not null check (total_stock > 0),
  available_stock integer not null check (available_stock between 0 and total_stock)
) with (fillfactor = 20); -- so that an update of the stock finds room in the row's page

create table holdfast.reservations (
  id uuid primary key,
  drop_id uuid not null references holdfast.drops,
  user_id uuid not null,
  status text not null check (status in ('ACTIVE', 'EXPIRED', 'CANCELLED', 'CONSUMED')),
  expires_at timestamptz not null,
  created_at timestamptz not null default now()
);

create unique index reservations_active_key on holdfast.reservations (drop_id, user_id) where status = 'ACTIVE';
create index reservations_due_idx on holdfast.reservations (expires_at) where status = 'ACTIVE';
