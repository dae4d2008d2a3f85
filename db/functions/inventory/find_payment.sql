-- inventory.find_payment: the id of the payment that an event of a provider is about, or null.
--
-- It is named by its id, or else by the id that it has at the provider. A payment of another provider is not meant.
--
-- Locks: none. Errors: none.
-- Plans: the provider is compared afterwards, because the index of provider and reference would cost the same while the table is
-- small.

create or replace function inventory.find_payment(p_event api.payment_event)
returns uuid
language plpgsql stable
as $$
declare
  v_provider text;
begin
  if p_event.payment_id is not null then
    v_provider := (select y.provider from inventory.payments y where y.id = p_event.payment_id);
    return case when v_provider = p_event.provider then p_event.payment_id end;
  end if;
  return (
    select y.id from inventory.payments y
    where y.provider = p_event.provider and y.provider_reference = p_event.provider_reference);
end
$$;

comment on function inventory.find_payment(api.payment_event) is
'The id of the payment that this event is about; null: none is known.';
