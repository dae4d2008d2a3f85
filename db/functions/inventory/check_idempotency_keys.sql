-- inventory.check_idempotency_keys: refuse Idempotency-Keys that the tables would refuse, before the first request of a batch is
-- served.
--
-- The rule is the one of the tables' constraints; those would find a bad key only on an insert, in the middle of the batch.
--
-- Locks: none. Errors: VALIDATION_ERROR.

create or replace function inventory.check_idempotency_keys(p_idempotency_keys text[])
returns void
language plpgsql stable
as $$
begin
  if exists (select from unnest(p_idempotency_keys) as k (key) where octet_length(k.key) > 255 or k.key !~ '^[!-~]+$') then
    perform inventory.refuse_constraint('reservations_idempotency_key_check');
  end if;
end
$$;

comment on function inventory.check_idempotency_keys(text[]) is
'Raise VALIDATION_ERROR unless all keys are 1 to 255 visible ASCII characters.';
