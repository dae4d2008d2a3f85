-- api.events_after: the events after this one, of all drops or of some, oldest first, at most p_limit.
--
-- Locks: none. Errors: VALIDATION_ERROR (p_limit). If the reader may have missed an event that the log has no more, or has one that
-- was lost, the answer is one RESYNC_REQUIRED of no drop: the reader must start from a snapshot. A reader has missed nothing if
--
-- - its event is in the log, or is the one just before the oldest; that is 0 for a log that has its beginning, or is empty;
-- - it reads some drops only, and no event of theirs after its own was pruned. Then its event may be older than the log, but must
--   not be one that was lost (api.ensure_epoch).
--
-- Readers take everything after the key `data` as it is, so `data` stays the last column.

create or replace function api.events_after(p_after bigint, p_limit integer default 1000, p_drop_ids uuid[] default null)
returns table (type text, id text, drop_id uuid, data json)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_oldest bigint := (select min(e.id) from inventory.events e);
begin
  if p_limit is null or p_limit < 1 then
    perform inventory.refuse('VALIDATION_ERROR', 'p_limit: must be 1 or more');
  end if;
  if p_after <> coalesce(v_oldest - 1, 0)
    and not exists (select from inventory.events e where e.id = p_after)
    and (
      p_drop_ids is null
      or p_after > coalesce(v_oldest, 0)
      or exists (select from inventory.event_epochs e where p_after > e.lost_after_id and p_after < e.first_id)
      or exists (
        select
        from unnest(p_drop_ids) as d (id)
        cross join lateral (
          select from inventory.pruned_events p where p.drop_id = d.id and p.last_id > p_after limit 1
        ) missed
      )
    )
  then
    return query
    select 'RESYNC_REQUIRED', p_after::text, null::uuid, to_json(r)
    from (select 'The event log does not reach back to the last event you have.' as reason) r;
  elsif p_after is null then
    return query
    select l.type, l.id::text, l.drop_id, l.data
    from (select * from inventory.events e order by e.id desc limit p_limit) l
    order by l.id;
  elsif p_drop_ids is null then
    return query
    select e.type, e.id::text, e.drop_id, e.data from inventory.events e where e.id > p_after order by e.id limit p_limit;
  else
    return query
    select l.type, l.id::text, l.drop_id, l.data
    from (select distinct d.id from unnest(p_drop_ids) as d (id)) d
    cross join lateral (
      select * from inventory.events e where e.drop_id = d.id and e.id > p_after order by e.id limit p_limit
    ) l
    order by l.id
    limit p_limit;
  end if;
end
$$;

comment on function api.events_after(bigint, integer, uuid[]) is
'The events after event p_after, of the drops p_drop_ids or of all, oldest first, at most p_limit. After null: the latest ones, of
all drops. One RESYNC_REQUIRED, of no drop, if the log cannot tell what came after that event.';
