-- inventory.drop_rows: turn rows of drops into the rows that the API shows, as they are by the clock, in the same order.
--
-- Purpose: every read and every event shows a drop so: a hold that is due counts as stock, a drop whose time has come is live or
-- ended, whether or not the sweep has come by.
--
-- Locks: none. Errors: none.
--
-- Plans: PostgreSQL puts this function into the statement of its caller, which has switched sequential and bitmap scans off
-- and keeps its plan. Nothing sorts, because a nested loop is the only way to join what is computed for each drop, and it keeps the order.

create or replace function inventory.drop_rows(p_drops inventory.drops[])
returns setof api.drop_row
language sql stable
as $$
  select
    d.id, d.name::text, d.price::numeric, d.currency::text, d.total_stock::integer, d.available_stock + coalesce(due.units, 0),
    array(
      select row(
        v.id, v.name, coalesce(v.price, d.price), v.total_stock,
        v.available_stock + coalesce((due.units_of_variants ->> v.id::text)::integer, 0))::api.variant_row
      from inventory.variants v
      where v.drop_id = d.id
      order by v.position, v.id
    ),
    d.starts_at::timestamptz, d.ends_at::timestamptz, inventory.status_now(d), d.paused_at,
    d.limit_per_user::integer, d.hold_seconds::integer, d.rehold_after_seconds::integer, d.extension_seconds::integer, d.revision,
    d.created_by, d.created_at, d.updated_at, d.image_url::text
  from unnest(p_drops) d
  cross join lateral (
    select sum(u.units)::integer as units, jsonb_object_agg(coalesce(u.variant_id::text, ''), u.units) as units_of_variants
    from inventory.due_units(d) u
    where d.id = any ((select inventory.drops_with_due(p_drops))::uuid[])
  ) due
$$;

comment on function inventory.drop_rows(inventory.drops[]) is 'Return drops as the API shows them, as they are by the clock.';
