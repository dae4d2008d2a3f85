-- inventory.logged_events: the events after this one, oldest first, at most p_limit: see api.events_after, which explains the answer,
-- and api.relayed_events_after.
--
-- Public events are of all drops, or of p_drop_ids. Private ones are those of p_user_id, of any drop, or those of everybody if
-- p_is_relay says so. A reader that names both drops and a user must have an id that is in the log, because nothing keeps for each
-- user what was pruned.
--
-- Locks: none. Errors: VALIDATION_ERROR (p_limit).
-- Plans: the primary key for all drops; for some, events_drop_idx once for each drop, and events_user_idx.

create or replace function inventory.logged_events(
  p_after bigint, p_limit integer, p_drop_ids uuid[], p_user_id uuid, p_is_relay boolean
)
returns table (type text, id text, drop_id uuid, user_id uuid, data json)
language plpgsql stable
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
      or p_user_id is not null
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
    select 'RESYNC_REQUIRED', p_after::text, null::uuid, null::uuid, to_json(r)
    from (select 'The event log does not reach back to the last event you have.' as reason) r;
  elsif p_after is null then
    return query
    select l.type, l.id::text, l.drop_id, l.user_id, inventory.data_with_time(l.data, l.created_at)
    from (
      select * from inventory.events e
      where e.user_id is null or p_is_relay or e.user_id = p_user_id
      order by e.id desc
      limit p_limit
    ) l
    order by l.id;
  elsif p_drop_ids is null then
    return query
    select e.type, e.id::text, e.drop_id, e.user_id, inventory.data_with_time(e.data, e.created_at)
    from inventory.events e
    where e.id > p_after and (e.user_id is null or p_is_relay or e.user_id = p_user_id)
    order by e.id
    limit p_limit;
  else
    return query
    select l.type, l.id::text, l.drop_id, l.user_id, inventory.data_with_time(l.data, l.created_at)
    from (
      select of_drop.*
      from (select distinct d.id from unnest(p_drop_ids) as d (id)) d
      cross join lateral (
        select * from inventory.events e
        where e.drop_id = d.id and e.id > p_after and e.user_id is null
        order by e.id
        limit p_limit
      ) of_drop
      union all
      select of_user.*
      from (
        select * from inventory.events e where e.user_id = p_user_id and e.id > p_after order by e.id limit p_limit
      ) of_user
    ) l
    order by l.id
    limit p_limit;
  end if;
end
$$;

comment on function inventory.logged_events(bigint, integer, uuid[], uuid, boolean) is
'The events after event p_after: the public ones of p_drop_ids or of all drops, and the private ones of p_user_id or, for the relay,
of everybody.';
