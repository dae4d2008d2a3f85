-- api.activity: what happened in the last p_seconds, of all drops or of some, and the position from which a reader goes on.
--
-- Purpose: a page that begins shows the past at once and then follows the events after `position`. `events` are the latest 200,
-- oldest first. `drops` has the points of a chart of each drop (inventory.stock_points) in buckets of `bucket_seconds`: of
-- the drops p_drop_ids, or else of the 50 on sale that started last. There are at most 240 buckets for ten drops, and 60 for
-- more.
--
-- All of it is public, as a snapshot is, so there are no drafts and no events that are for one user, and of a drop that went back
-- to draft there is only its DROP_REMOVED.
--
-- Locks: none. Errors: VALIDATION_ERROR (seconds, dropId).
--
-- The function is stable, so all its statements see one moment. Ids are in commit order, so a reader that goes on after
-- `position` misses nothing and gets nothing twice. `to` may be a little later than now(), because events are announced later
-- than their transaction begins.
--
-- Plans: as in api.events_after.

create or replace function api.activity(p_seconds integer default 3600, p_drop_ids uuid[] default null)
returns table ("position" text, "from" timestamptz, "to" timestamptz, events json, bucket_seconds integer, drops json)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_buckets integer := case when cardinality(p_drop_ids) <= 10 then 240 else 60 end;
  c_events constant integer := 200;
  v_newest inventory.events;
  v_known_from timestamptz;
  v_ends timestamptz[]; -- when the first bucket begins, and when each ends
  v_ids bigint[]; -- the last event up to each of these
  v_drops inventory.drops[];
begin
  if (p_seconds between 1 and 86400) is not true then
    perform inventory.refuse('VALIDATION_ERROR', 'seconds: must be between 1 and 86400');
  end if;
  if cardinality(p_drop_ids) > 100 then
    perform inventory.refuse('VALIDATION_ERROR', 'dropId: must not be more than 100 drops');
  end if;
  select * into v_newest from inventory.events e order by e.id desc limit 1;
  select e.created_at into v_known_from from inventory.events e order by e.id limit 1;
  "position" := coalesce(v_newest.id, 0)::text;
  "to" := greatest(now(), v_newest.created_at);
  "from" := "to" - make_interval(secs => p_seconds);
  bucket_seconds := (p_seconds + v_buckets - 1) / v_buckets;
  v_ends := array(
    select greatest("to" - make_interval(secs => n * bucket_seconds), "from")
    from generate_series((p_seconds + bucket_seconds - 1) / bucket_seconds, 0, -1) as n
  );
  v_ids := inventory.event_ids_at(v_ends);

  events := (
    select coalesce(json_agg(shown order by l.id), '[]')
    from (
      select * from (
        select e.*
        from inventory.events e
        where p_drop_ids is null and e.id > v_ids[1] and e.user_id is null
        order by e.id desc
        limit c_events
      ) of_all
      union all
      select *
      from (
        select of_drop.*
        from (select distinct d.id from unnest(p_drop_ids) as d (id)) d
        cross join lateral (
          select *
          from inventory.events e
          where e.drop_id = d.id and e.id > v_ids[1] and e.user_id is null
          order by e.id desc
          limit c_events
        ) of_drop
        order by of_drop.id desc
        limit c_events
      ) of_some
    ) l
    cross join lateral (select l.id::text as id, l.type, l.drop_id as "dropId", l.created_at as at, l.data) shown
    where l.type = 'DROP_REMOVED'
      or exists (select from inventory.drops d where d.id = l.drop_id and inventory.is_public(d) offset 0)
  );

  if p_drop_ids is null then
    v_drops := array(
      select page.d
      from unnest(array['scheduled', 'live']) as stored (status)
      cross join lateral (
        select d
        from inventory.drops d
        where d.status = stored.status and d.starts_at <= now() and (d.ends_at is null or d.ends_at > now())
        order by d.starts_at desc, d.id desc
        limit 50
      ) page
      order by (page.d).starts_at desc, (page.d).id desc
      limit 50
    );
  else
    v_drops := array(
      select d
      from inventory.drops d
      where d.id = any (p_drop_ids) and inventory.is_public(d)
      order by d.starts_at desc nulls last, d.id desc
    );
  end if;
  drops := (
    select coalesce(json_agg(shown order by d.n), '[]')
    from (select unnest(v_drops) as drop, generate_series(1, cardinality(v_drops)) as n) d
    cross join lateral inventory.stock_points(d.drop, v_ends, v_ids, v_known_from) points
    cross join lateral (select (d.drop).id as "dropId", points) shown
  );
  return next;
end
$$;

comment on function api.activity(integer, uuid[]) is
'What happened in the last p_seconds, of the drops p_drop_ids or of all: the latest 200 events, oldest first, the stock of drops
by time, and the position, an event id, after which a reader goes on. select * from api.activity(600);';
