-- inventory.earlier_baskets: for each request the basket that its user made with the same Idempotency-Key, or null.
--
-- Locks: none. Errors: none. Plans: see db/README.md, 'Plans'.

create or replace function inventory.earlier_baskets(p_requests api.basket_request[])
returns inventory.baskets[]
language plpgsql stable
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  return array(
    select earlier.basket
    from unnest(p_requests) with ordinality q
    left join lateral (
      select b as basket
      from inventory.baskets b
      where b.user_id = q.user_id and b.idempotency_key = q.idempotency_key
      limit 1
    ) earlier on true
    order by q.ordinality
  );
end
$$;

comment on function inventory.earlier_baskets(api.basket_request[]) is
'For each request the basket that its user made with the same Idempotency-Key, or null.';
