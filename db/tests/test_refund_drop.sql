-- api.refund_drop refunds the sales of a drop that sells no more, so many a call; the history has who did it, and stays.
begin;
select plan(15);

select pg_temp.make_users('seller', 'ann', 'bob', 'cat');
select pg_temp.make_drops('shoes', 'live');
select pg_temp.buy('shoes', 'ann', 'bob', 'cat');
select pg_temp.buy('live', 'ann');
do $$ begin perform api.update_drop(pg_temp.drop_id('shoes'), '{"status": "ended"}', null, pg_temp.user_id('seller')); end $$;

select is(
  pg_temp.refusal('select api.refund_drop(pg_temp.drop_id(''live''))'),
  pg_temp.error('INVALID_STATUS_CHANGE', 'All sales can be refunded once the drop is cancelled or over.'),
  'The sales of a live drop are not refunded all at once.'
);
select is(pg_temp.refusal(format('select api.refund_drop(%L)', gen_random_uuid())), pg_temp.error('DROP_NOT_FOUND'), 'No drop.');
select is(
  pg_temp.refusal('select api.refund_drop(pg_temp.drop_id(''shoes''), 0)'),
  pg_temp.error('VALIDATION_ERROR', 'limit: must be between 1 and 1000'), 'A call refunds at least one.'
);
select results_eq(
  $$select * from api.refund_drop(pg_temp.drop_id('shoes'), 2, pg_temp.user_id('seller'))$$, 'values (2, 1::bigint)',
  'A call refunds so many, and says how many remain.'
);
select is(pg_temp.stock_of('shoes'), 9, 'The units are back in stock.');
select results_eq($$select * from api.refund_drop(pg_temp.drop_id('shoes'), 2)$$, 'values (1, 0::bigint)', 'The next goes on.');
select results_eq($$select * from api.refund_drop(pg_temp.drop_id('shoes'), 2)$$, 'values (0, 0::bigint)', 'Then there is nothing.');
select is(pg_temp.stock_of('shoes'), 10, 'All units are back.');
select is_empty('select * from pg_temp.findings()', 'The books balance.');

select results_eq(
  $$
    select action, changed_by, details from inventory.drop_changes
    where drop_id = pg_temp.drop_id('shoes') and action = 'refunded' order by id
  $$,
  $$
    values ('refunded', pg_temp.user_id('seller'), '{"purchases": 2, "amount": 20}'::jsonb), ('refunded', null, '{"purchases": 1, "amount": 10}')
  $$,
  'Each call is in the history, with who made it; one that refunded nothing is not.'
);
select results_eq(
  $$
    select action, changed_by, details -> 'status' from inventory.drop_changes
    where drop_id = pg_temp.drop_id('shoes') and action = 'updated'
  $$,
  $$values ('updated', pg_temp.user_id('seller'), '{"from": "live", "to": "ended"}'::jsonb)$$,
  'A change is in the history with what was before.'
);
select is(
  pg_temp.refusal(format('select api.update_drop(pg_temp.drop_id(''live''), ''{"price": 1}'', null, %L)', pg_temp.user_id('nobody'))),
  pg_temp.error('AUTH_REQUIRED'), 'Someone who is not there changed nothing.'
);
select throws_ok(v.sql, '23001', null, 'History is not rewritten: ' || v.sql)
from (values
  ('update inventory.drop_changes set changed_by = null'), ('delete from inventory.drop_changes'),
  ('truncate inventory.drop_changes')
) as v (sql);

select * from finish();
rollback;
