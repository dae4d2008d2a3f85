-- The daily comparison with payment providers is for one caller, and calls to them are counted.
begin;
select plan(7);

select is(api.claim_reconciliation(86400), true, 'The first who asks is to compare.');
select is(api.claim_reconciliation(86400), false, 'The next one is not.');
update inventory.settings set reconciled_at = now() - interval '1 day';
select is(api.claim_reconciliation(86400), true, 'After that time it is due again.');
select is(
  pg_temp.refusal('select api.claim_reconciliation(0)'), pg_temp.refusal('select api.claim_reconciliation(null)'),
  'An interval is at least a second.');

select is((select row(waiting, gave_up)::text from api.count_provider_calls()), '(0,0)', 'There are no calls.');
insert into inventory.provider_calls (drop_id, payment_id, action, amount, done_at, gave_up_at)
values
  (gen_random_uuid(), gen_random_uuid(), 'create', 1, now(), null),
  (gen_random_uuid(), gen_random_uuid(), 'cancel', 1, null, null),
  (gen_random_uuid(), gen_random_uuid(), 'refund', 1, null, null),
  (gen_random_uuid(), gen_random_uuid(), 'refund', 1, null, now());
select is((select row(waiting, gave_up)::text from api.count_provider_calls()), '(2,1)', 'Calls wait, or were given up.');

insert into inventory.payment_events (provider, event_id, status, body, outcome, problem)
values ('stripe', 'a refund that failed', 'refunded', '{}', 'flagged', 'refund_failed');
select is((select problem from api.list_payment_problems(1)), 'refund_failed', 'A refund that failed is for the seller to look at.');

select * from finish();
rollback;
