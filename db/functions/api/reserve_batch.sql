-- api.reserve_batch: the app's face of inventory.reserve_many: one outcome a request, nothing raised for a refusal.
--
-- Locks, codes and errors raised: see inventory.reserve_many.

create or replace function api.reserve_batch(
  p_drop_id uuid,
  p_user_ids uuid[],
  p_idempotency_keys text[],
  p_ttl_seconds integer default 60
)
returns setof api.outcome
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select
    m.n,
    case when m.code is not null then e.status when m.replayed then 200 else 201 end,
    m.code,
    e.message,
    m.replayed,
    case when m.code is null then to_json(m.reservation) end
  from inventory.reserve_many(p_drop_id, p_user_ids, p_idempotency_keys, p_ttl_seconds) m
  left join api.errors() e on e.code = m.code
  order by m.n;
end
$$;

comment on function api.reserve_batch(uuid, uuid[], text[], integer) is
'Hold one unit of a drop for each user, in the order given. Request n is p_user_ids[n] with p_idempotency_keys[n] (null: no
key); the answer has one row a request, with HTTP status, and code and message when it is refused. A hold lasts p_ttl_seconds.';
