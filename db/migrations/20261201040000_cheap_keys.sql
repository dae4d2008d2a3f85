-- migrate:up

-- PostgreSQL takes 50 times as long for a regular expression that counts to 255 as for one that does not count, and a constraint is
-- checked whenever a row is written, also by the purchase and the end of a hold. A million rows are read in about a second.

-- squawk-ignore-file constraint-missing-not-valid, ban-drop-constraint, prefer-robust-stmts

set local statement_timeout = '60s';

-- All tables at once, because calls in progress lock them in several orders. This gives way and tries again before a deadlock is found.
do $$
declare
  v_gives_up_at timestamptz := clock_timestamp() + interval '5 seconds';
begin
  loop
    begin
      set local lock_timeout = '200ms';
      lock table inventory.reservations, inventory.purchases, inventory.baskets in access exclusive mode;
      return;
    exception when lock_not_available then
      if clock_timestamp() > v_gives_up_at then
        raise;
      end if;
      perform pg_sleep(0.05);
    end;
  end loop;
end
$$;
set local lock_timeout = '5s';

alter table inventory.reservations
  drop constraint reservations_idempotency_key_check,
  add constraint reservations_idempotency_key_check
    check (octet_length(idempotency_key) <= 255 and idempotency_key ~ '^[!-~]+$');
comment on constraint reservations_idempotency_key_check on inventory.reservations is
'Idempotency-Key: must be 1 to 255 visible ASCII characters';

alter table inventory.purchases
  drop constraint purchases_idempotency_key_check,
  add constraint purchases_idempotency_key_check
    check (octet_length(idempotency_key) <= 255 and idempotency_key ~ '^[!-~]+$');
comment on constraint purchases_idempotency_key_check on inventory.purchases is
'Idempotency-Key: must be 1 to 255 visible ASCII characters';

alter table inventory.baskets
  drop constraint baskets_idempotency_key_check,
  add constraint baskets_idempotency_key_check
    check (octet_length(idempotency_key) <= 255 and idempotency_key ~ '^[!-~]+$');
comment on constraint baskets_idempotency_key_check on inventory.baskets is
'Idempotency-Key: must be 1 to 255 visible ASCII characters';

-- migrate:down

-- Old rows obey the same rule, and to read a million of them would take a minute.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

alter table inventory.reservations
  drop constraint reservations_idempotency_key_check,
  add constraint reservations_idempotency_key_check check (idempotency_key ~ '^[!-~]{1,255}$') not valid;
comment on constraint reservations_idempotency_key_check on inventory.reservations is
'Idempotency-Key: must be 1 to 255 visible ASCII characters';

alter table inventory.purchases
  drop constraint purchases_idempotency_key_check,
  add constraint purchases_idempotency_key_check check (idempotency_key ~ '^[!-~]{1,255}$') not valid;
comment on constraint purchases_idempotency_key_check on inventory.purchases is
'Idempotency-Key: must be 1 to 255 visible ASCII characters';

alter table inventory.baskets
  drop constraint baskets_idempotency_key_check,
  add constraint baskets_idempotency_key_check check (idempotency_key ~ '^[!-~]{1,255}$') not valid;
comment on constraint baskets_idempotency_key_check on inventory.baskets is
'Idempotency-Key: must be 1 to 255 visible ASCII characters';
