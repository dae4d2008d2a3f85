-- api.list_drops: list the drops on sale now, the newest start first, each with its latest purchasers and the units held.
--
-- Locks: none. Errors: none.

create or replace function api.list_drops()
returns table (
  id uuid,
  name text,
  price numeric,
  currency text,
  total_stock integer,
  available_stock integer,
  variants api.variant_row[],
  starts_at timestamptz,
  ends_at timestamptz,
  status text,
  paused_at timestamptz,
  limit_per_user integer,
  hold_seconds integer,
  rehold_after_seconds integer,
  extension_seconds integer,
  revision integer,
  created_by uuid,
  "createdAt" timestamptz,
  "updatedAt" timestamptz,
  activity_feed json
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select
    (inventory.drop_row(d)).*,
    inventory.activity_feed(d.id)
  from inventory.drops d
  where d.status in ('scheduled', 'live') and d.starts_at <= now() and (d.ends_at is null or d.ends_at > now())
  order by d.starts_at desc, d.id desc;
end
$$;

comment on function api.list_drops() is
'List the drops on sale now (started, not ended, scheduled or live), the newest start first, each with its three latest
purchasers and the number of units held.';
