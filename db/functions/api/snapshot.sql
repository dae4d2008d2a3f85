-- api.snapshot: the drops as they are, and the id of the last event that is in them: a SNAPSHOT event of no drop.
--
-- Purpose: where a reader starts; it then applies the events after this id. Like them it is public, so it has no drafts.
-- Locks: none. Errors: none.
--
-- The function is stable, so all its statements see one moment. Ids are in commit order, so what it sees is exactly what the
-- events up to that id announced. Times are written in UTC, as they are there.

create or replace function api.snapshot(p_drop_ids uuid[] default null)
returns table (type text, id text, drop_id uuid, data json)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_drop_ids uuid[] := coalesce(
    p_drop_ids, array(select d.id from inventory.drops d where d.status in ('scheduled', 'live')));
  v_drops inventory.drops[] := array(
    select d
    from inventory.drops d
    where d.id = any (v_drop_ids) and inventory.is_public(d)
    order by d.starts_at desc nulls last, d.id desc
  );
begin
  return query
  select 'SNAPSHOT', coalesce((select max(e.id) from inventory.events e), 0)::text, null::uuid, to_json(s)
  from (
    select array(
      select shown
      from (
        select d.*, activity.feed as activity_feed
        from inventory.drop_rows(v_drops) d
        cross join lateral inventory.activity_feed(d.id) activity
      ) shown
    ) as drops
  ) s;
end
$$;

comment on function api.snapshot(uuid[]) is
'The drops p_drop_ids, or all that are scheduled or live, as a SNAPSHOT event; no drafts, because it is public. Its id is that of the last event in it.';
