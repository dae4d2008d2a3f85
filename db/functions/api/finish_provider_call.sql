-- api.finish_provider_call: a call to a payment provider was made. If it created the payment there, note its id and what the
-- buyer pays with.
--
-- Purpose: to say so again changes nothing. The buyer is told of client_secret or url (PAYMENT_UPDATED). An id that another payment
-- has is not noted, because the provider has made a mistake.
--
-- Locks, in this order: the payment, the call. Errors: PROVIDER_CALL_NOT_FOUND.

create or replace function api.finish_provider_call(
  p_id uuid, p_provider_reference text default null, p_client_secret text default null, p_url text default null
)
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  update inventory.payments y
  set
    provider_reference = case
      when p_provider_reference is null or exists (
        select from inventory.payments other
        where other.provider = y.provider and other.provider_reference = p_provider_reference)
        then y.provider_reference
      else p_provider_reference
    end,
    client_secret = coalesce(p_client_secret, y.client_secret),
    url = coalesce(p_url, y.url),
    updated_at = now()
  where y.id = (select c.payment_id from inventory.provider_calls c where c.id = p_id)
    and (p_provider_reference, p_client_secret, p_url) is distinct from (null, null, null);
  update inventory.provider_calls c
  set done_at = coalesce(c.done_at, now()), gave_up_at = null, last_error = case when c.done_at is not null then c.last_error end
  where c.id = p_id;
  if not found then
    perform inventory.refuse('PROVIDER_CALL_NOT_FOUND');
  end if;
end
$$;

comment on function api.finish_provider_call(uuid, text, text, text) is
'Note that a call to a payment provider was made, and the payment''s id and client secret or URL there, if it was created.';
