-- api.cancel_batch: the app's face of inventory.cancel_many: one outcome a request, nothing raised for a refusal.
--
-- Locks: drop by drop in the order of their ids, as inventory.cancel_many does. A request names only its reservation, so
-- the drops are looked up here, and there may be several. Then it does not wait long, for that would hold up the drops before.
-- Errors: with several drops lock_not_available (55P03) after 100 ms at a lock, and nothing is done; cancel one by one then.

create or replace function api.cancel_batch(p_reservation_ids uuid[], p_user_ids uuid[])
returns setof api.outcome
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_group record;
  v_outcomes api.outcome[];
  v_lock_timeout text := current_setting('lock_timeout');
begin
  for v_group in
    select
      r.drop_id,
      array_agg(q.n::integer order by q.n) as ns,
      array_agg(q.id order by q.n) as reservation_ids,
      array_agg(q.user_id order by q.n) as user_ids,
      count(*) over () as drop_count
    from unnest(p_reservation_ids, p_user_ids) with ordinality as q (id, user_id, n)
    left join lateral (
      select r.drop_id from inventory.reservations r where r.id = q.id limit 1
    ) r on true
    group by r.drop_id
    order by r.drop_id
  loop
    if v_group.drop_count > 1 then
      perform set_config('lock_timeout', '100ms', true);
    end if;
    v_outcomes := v_outcomes || array(
      select
        row(
          v_group.ns[m.n],
          coalesce(e.status, 200),
          m.code,
          e.message,
          false,
          case when m.code is null then to_json(m.reservation) end
        )::api.outcome
      from inventory.cancel_many(v_group.drop_id, v_group.reservation_ids, v_group.user_ids) m
      left join api.errors() e on e.code = m.code
    );
  end loop;
  perform set_config('lock_timeout', v_lock_timeout, true);
  return query select * from unnest(v_outcomes) o order by o.n;
end
$$;

comment on function api.cancel_batch(uuid[], uuid[]) is
'Cancel ACTIVE reservations and give their units back. Request n is p_reservation_ids[n] by p_user_ids[n]; the answer has one row
a request, with HTTP status, and code and message when it is refused. Of several drops, waits no longer than 100 ms for a lock
(55P03).';
