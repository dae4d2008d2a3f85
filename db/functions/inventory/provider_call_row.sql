-- inventory.provider_call_row: turn a row of provider_calls into the row that the API shows.
--
-- Locks: none. Errors: none.

create or replace function inventory.provider_call_row(p_call inventory.provider_calls)
returns api.provider_call_row
language sql stable parallel safe
as $$
  select row(
    p_call.id, p_call.payment_id, p_call.drop_id, p_call.action, p_call.amount,
    (select y.currency from inventory.payments y where y.id = p_call.payment_id), p_call.attempts,
    case when p_call.done_at is not null then 'done' when p_call.gave_up_at is not null then 'given_up' else 'open' end,
    p_call.next_attempt_at, p_call.done_at, p_call.gave_up_at, p_call.last_error, p_call.created_at
  )::api.provider_call_row
$$;

comment on function inventory.provider_call_row(inventory.provider_calls) is 'Return a call to a provider as the API shows it.';
