-- inventory.note_earlier_payment_end: trigger on purchases: a payment ends earlier than before, or is pending again, so the search for
-- what is due on its drop begins there if it began later.
--
-- Purpose, locks and errors: as in inventory.note_earlier_end, which is for holds. No function changes the end of a payment, and of new
-- purchases inventory.note_purchases sees to it.

create or replace function inventory.note_earlier_payment_end()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform inventory.expect_due_at(array[new.drop_id], array[new.payment_expires_at]);
  return null;
end
$$;

comment on function inventory.note_earlier_payment_end() is
'Trigger: let the search for what is due begin at the end of this payment.';
