-- migrate:up

-- squawk-ignore-file constraint-missing-not-valid, ban-drop-constraint, prefer-robust-stmts
-- Money may be taken twice for one payment, under two ids at the provider. That is for the seller to look at, so an event keeps the id
-- that it names. Of events before this it is not known.

set local statement_timeout = '60s';

-- All tables at once, and those of the migrations after this one, which may run in the same transaction. Calls in progress lock them in
-- several orders, so this gives way and tries again before a deadlock is found.
do $$
declare
  v_gives_up_at timestamptz := clock_timestamp() + interval '5 seconds';
begin
  loop
    begin
      set local lock_timeout = '200ms';
      lock table
        inventory.drops, inventory.variants, inventory.reservations, inventory.purchases, inventory.changes, inventory.payment_events
        in access exclusive mode;
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

alter table inventory.payment_events
  add column provider_reference text,
  drop constraint payment_events_problem_check,
  add constraint payment_events_problem_check check (
    problem in (
      'unknown_payment', 'wrong_amount', 'wrong_currency', 'wrong_mode', 'refunded_in_part', 'refund_failed', 'too_late',
      'paid_twice'));
comment on column inventory.payment_events.provider_reference is
'The id at the provider that the event names; null: none, or the event is older than this column.';

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- Events with the newer problem stay, because rows are never changed or deleted here.
alter table inventory.payment_events
  drop constraint payment_events_problem_check,
  add constraint payment_events_problem_check check (
    problem in (
      'unknown_payment', 'wrong_amount', 'wrong_currency', 'wrong_mode', 'refunded_in_part', 'refund_failed', 'too_late')) not valid;
-- squawk-ignore ban-drop-column
alter table inventory.payment_events drop column provider_reference;
