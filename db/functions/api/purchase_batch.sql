-- api.purchase_batch: the app's face of inventory.purchase_many: one outcome a request, nothing raised for a refusal.
--
-- Locks, codes and errors raised: see inventory.purchase_many.

create or replace function api.purchase_batch(
  p_drop_id uuid,
  p_user_ids uuid[],
  p_idempotency_keys text[]
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
    case when m.code is null then to_json(m.purchase) end
  from inventory.purchase_many(p_drop_id, p_user_ids, p_idempotency_keys) m
  left join api.errors() e on e.code = m.code
  order by m.n;
end
$$;

comment on function api.purchase_batch(uuid, uuid[], text[]) is
'Purchase what each user holds on a drop, in the order given. Request n is p_user_ids[n] with p_idempotency_keys[n] (null: no
key); the answer has one row a request, with HTTP status, and code and message when it is refused.';
