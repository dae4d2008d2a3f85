-- What a provider has to be told is leased to one worker at a time, in order for each payment, tried again, given up, and retried.
begin;
select plan(38);

select pg_temp.make_users('seller', 'ann', 'bob', 'cat');
select pg_temp.make_drop('shoes', 9);
select api.set_payment_provider('stripe', 600);
delete from inventory.provider_calls;
select pg_temp.buy('shoes', 'ann', 'bob');

-- What a worker gets, as "ann create 1", with the number of attempts.
create function pg_temp.taken(p_limit integer default 10, p_payment_id uuid default null) returns text[] language sql as $$
  select coalesce(array_agg(concat_ws(' ', substr(u.username, 7), t.action, t.attempts) order by t.id), '{}')
  from api.take_provider_calls(p_limit, 60, p_payment_id) t
  join inventory.users u on u.id = (t.payment).user_id
$$;
-- The newest call of a user's payment.
create function pg_temp.call_id(p_user text) returns uuid language sql stable as $$
  select c.id from inventory.provider_calls c where c.payment_id = pg_temp.payment_id('shoes', p_user) order by c.id desc limit 1
$$;
-- Let all leases and pauses be over.
create function pg_temp.pass_time() returns void language plpgsql as $$
begin
  update inventory.provider_calls set next_attempt_at = now();
end
$$;

select is(pg_temp.taken(1), array['ann create 1'], 'A worker takes as many calls as it says.');
select is(pg_temp.taken(), array['bob create 1'], 'Another one takes the rest.');
select is(pg_temp.taken(), '{}', 'What is leased is not taken.');
select results_eq(
  $$select attempts, next_attempt_at, done_at from inventory.provider_calls where id = pg_temp.call_id('ann')$$,
  $$values (1, now() + interval '60 s', null::timestamptz)$$, 'A lease lasts as long as the worker says.'
);
select pg_temp.pass_time();
select is(pg_temp.taken(), array['ann create 2', 'bob create 2'], 'When it is over, somebody else takes the call.');

-- Order.

do $$
begin
  perform pg_temp.tell_of('shoes', 'bob', 'paid');
  perform api.refund_purchase(pg_temp.purchase_id('shoes', 'bob'));
  perform api.cancel_payment(pg_temp.payment_id('shoes', 'ann'), pg_temp.user_id('ann'));
end
$$;
select is(pg_temp.taken(), '{}', 'A cancel and a refund wait for the create.');
select lives_ok(
  format('select api.finish_provider_call(%L, ''pi_bob'', ''secret'', ''https://pay.example/1'')',
    (select id from inventory.provider_calls where payment_id = pg_temp.payment_id('shoes', 'bob') and action = 'create')),
  'The create is done.'
);
do $$ begin perform api.finish_provider_call(pg_temp.call_id('ann'), 'pi_bob'); end $$;
select is((select provider_reference from inventory.payments where id = pg_temp.payment_id('shoes', 'ann')), null,
  'An id that another payment has is not noted.');
update inventory.provider_calls set done_at = null where id = pg_temp.call_id('ann');
select results_eq(
  $$select provider_reference, client_secret, url from inventory.payments where id = pg_temp.payment_id('shoes', 'bob')$$,
  $$values ('pi_bob', 'secret', 'https://pay.example/1')$$, 'The payment has what the provider said.'
);
select results_eq(
  $$select provider_reference, client_secret, url from api.get_payment(pg_temp.payment_id('shoes', 'bob'), pg_temp.user_id('bob'))$$,
  $$values ('pi_bob', null, null)$$, 'The buyer pays no more, so what to pay with is not shown.'
);
select is(pg_temp.taken(), array['bob refund 1'], 'Then the refund is taken.');
select is(
  (select array_agg(t.amount) from api.take_provider_calls(10, 60, pg_temp.payment_id('shoes', 'ann')) t), null,
  'Of one payment nothing is taken either while its create is leased.'
);
select pg_temp.pass_time();
select is(pg_temp.taken(10, pg_temp.payment_id('shoes', 'ann')), array['ann create 3'], 'The calls of one payment may be asked for.');
select lives_ok(
  format('select api.finish_provider_call(%L)', pg_temp.call_id('bob')), 'A call that creates nothing is done.'
);
select is((select provider_reference from inventory.payments where id = pg_temp.payment_id('shoes', 'bob')), 'pi_bob',
  'The payment keeps what it has.');
select lives_ok(format('select api.finish_provider_call(%L)', pg_temp.call_id('bob')), 'It may be done twice.');

-- Failures.

select pg_temp.buy('shoes', 'cat');
select is(pg_temp.taken(), array['cat create 1'], 'A new call is taken.');
select lives_ok(format('select api.fail_provider_call(%L, ''no answer'')', pg_temp.call_id('cat')), 'It fails.');
select results_eq(
  $$select next_attempt_at, gave_up_at, last_error from inventory.provider_calls where id = pg_temp.call_id('cat')$$,
  $$values (now() + interval '5 s', null::timestamptz, 'no answer')$$, 'It is tried again after five seconds.'
);
create function pg_temp.pause_after(p_attempts integer) returns interval language plpgsql as $$
begin
  update inventory.provider_calls set attempts = p_attempts where id = pg_temp.call_id('cat');
  perform api.fail_provider_call(pg_temp.call_id('cat'), 'no answer');
  return (select next_attempt_at - now() from inventory.provider_calls where id = pg_temp.call_id('cat'));
end
$$;
select is(pg_temp.pause_after(v.attempts), v.pause, format('The pause after attempt %s.', v.attempts))
from (values (2, interval '10 s'), (3, '20 s'), (10, '2560 s'), (11, '1 hour'), (19, '1 hour')) as v (attempts, pause);
select is((select status from inventory.payments where id = pg_temp.payment_id('shoes', 'cat')), 'pending', 'The buyer waits.');
select is(pg_temp.pause_after(20), interval '1 hour', 'The last attempt failed.');
select is((select gave_up_at from inventory.provider_calls where id = pg_temp.call_id('cat')), now(), 'The call is given up.');
select is((select status from inventory.payments where id = pg_temp.payment_id('shoes', 'cat')), 'failed',
  'A payment that cannot be created has failed.');
select pg_temp.pass_time();
select is(pg_temp.taken(10, pg_temp.payment_id('shoes', 'cat')), '{}', 'It is not taken any more.');
select is((select status from api.retry_provider_call(pg_temp.call_id('cat'))), 'open', 'The seller retries it.');
select is(pg_temp.taken(10, pg_temp.payment_id('shoes', 'cat')), array['cat create 1'], 'Its attempts begin anew.');
select lives_ok(format('select api.fail_provider_call(%L, ''refused'', true)', pg_temp.call_id('cat')), 'A final failure');
select is((select gave_up_at from inventory.provider_calls where id = pg_temp.call_id('cat')), now(), 'is given up at once.');
do $$ begin perform api.cancel_payment(pg_temp.payment_id('shoes', 'cat'), pg_temp.user_id('cat')); end $$;
select is(pg_temp.taken(10, pg_temp.payment_id('shoes', 'cat')), array['cat cancel 1'], 'What was given up is not waited for.');

-- Refusals.

select is(pg_temp.refusal(format(v.call, gen_random_uuid())), pg_temp.error('PROVIDER_CALL_NOT_FOUND'), 'There is no such call: ' || v.call)
from (values
  ('select api.finish_provider_call(%L)'), ('select api.fail_provider_call(%L, ''x'')'), ('select api.retry_provider_call(%L)')
) as v (call);
select is(pg_temp.refusal(format('select api.retry_provider_call(%L)', pg_temp.call_id('bob'))),
  pg_temp.error('INVALID_STATUS_CHANGE', 'This call is done.'), 'What is done is not done again.');

select * from finish();
rollback;
