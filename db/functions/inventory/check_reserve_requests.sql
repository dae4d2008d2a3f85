-- inventory.check_reserve_requests: refuse values that the tables would refuse, before the first request of a batch is served.
--
-- Locks: none. Errors: VALIDATION_ERROR (p_ttl_seconds, qty, a key).

create or replace function inventory.check_reserve_requests(p_requests api.reserve_request[], p_ttl_seconds integer)
returns void
language plpgsql stable
as $$
begin
  if p_ttl_seconds is null or p_ttl_seconds not between 1 and 86400 then
    perform inventory.refuse('VALIDATION_ERROR', 'p_ttl_seconds: must be between 1 and 86400');
  end if;
  if exists (
    select
    from unnest(p_requests) q
    where q.qty < 1 or octet_length(q.idempotency_key) > 255 or q.idempotency_key !~ '^[!-~]+$'
  ) then
    perform inventory.check_idempotency_keys(array(select q.idempotency_key from unnest(p_requests) q));
    perform inventory.refuse_constraint('reservations_qty_check');
  end if;
end
$$;

comment on function inventory.check_reserve_requests(api.reserve_request[], integer) is
'Raise VALIDATION_ERROR unless these requests have values that a reservation can have.';
