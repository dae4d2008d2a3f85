-- api.on_sale_version: a text that stands for the first page of the drops on sale, as api.list_drops shows it now.
--
-- Purpose: many people look at that page while nothing happens, before a drop opens most of all. A caller keeps the page and this
-- text, which one statement returned, and passes the text as p_seen the next time. If it comes back, the page is still the same.
-- This takes a fraction of what the page takes.
--
-- What is shown depends on the rows and on the time. The rows are the same if the snapshot is: then no transaction has committed
-- since. A transaction that has written something itself gets a new text each time, because its snapshot does not tell of that.
-- So does each one on a standby, because there a snapshot does not say what runs on the primary. The function also checks what
-- changes by the clock: starts, ends, and what becomes due.
--
-- The text names the server and the session, because after a crash, or on another server, the same snapshot may stand for other
-- rows. So p_seen never comes back in another session.
--
-- Locks: none. Errors: VALIDATION_ERROR (p_limit).
--
-- Plans: as in api.list_drops. It is stable, so it sees the snapshot of the statement that calls it, as api.list_drops does.

create or replace function api.on_sale_version(p_limit integer default 50, p_seen text default null)
returns text
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_snapshot text := concat_ws(
    '/', pg_postmaster_start_time(), pg_backend_pid(), p_limit, pg_current_snapshot(),
    case when pg_current_xact_id_if_assigned() is not null or pg_is_in_recovery() then clock_timestamp() end);
  v_seen_at timestamptz;
begin
  perform inventory.check_limit(p_limit);
  if starts_with(p_seen, v_snapshot || '@') then
    v_seen_at := to_timestamp(split_part(p_seen, '@', 2)::double precision);
    if v_seen_at <= now() and not exists (
      select
      from unnest(array['scheduled', 'live']) as stored (status)
      cross join lateral (
        select d.id, d.starts_at, d.ends_at, d.nothing_due_before
        from inventory.drops d
        where d.status = stored.status and d.starts_at <= now() and (d.ends_at is null or d.ends_at > v_seen_at)
        order by d.starts_at desc, d.id desc
        limit p_limit
      ) d
      where d.starts_at > v_seen_at
        or d.ends_at <= now()
        or d.nothing_due_before <= now() and coalesce(
          (
            select r.expires_at
            from inventory.reservations r
            where r.status = 'ACTIVE' and r.drop_id = d.id and r.expires_at > v_seen_at and r.expires_at <= now()
            order by r.expires_at
            limit 1
          ),
          (
            select p.payment_expires_at
            from inventory.purchases p
            where p.status = 'pending' and p.drop_id = d.id and p.payment_expires_at > v_seen_at and p.payment_expires_at <= now()
            order by p.payment_expires_at
            limit 1
          )
        ) is not null
    ) then
      return p_seen;
    end if;
  end if;
  return v_snapshot || '@' || extract(epoch from now());
end
$$;

comment on function api.on_sale_version(integer, text) is
'A text that stands for the first p_limit drops on sale, as api.list_drops shows them. If it is p_seen, which an earlier call in
this session returned, they are still shown as they were then.';
