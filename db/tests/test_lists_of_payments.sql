-- The seller's lists of payments, of problems and of calls, the money of a drop, and what reconciliation looks at.
begin;
select plan(32);

select pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan');
select pg_temp.make_drop('shoes', 9);
select pg_temp.make_drop('socks', 9);
select pg_temp.make_sizes('tickets');
select api.set_payment_provider('stripe', 600);
select pg_temp.buy('shoes', 'ann', 'bob', 'cat');
create temp table basket on commit drop as
select (b.basket).id
from api.reserve_basket(pg_temp.user_id('dan'), array[
  row(pg_temp.drop_id('tickets'), pg_temp.variant_id('tickets', 'S'), 1),
  row(pg_temp.drop_id('tickets'), pg_temp.variant_id('tickets', 'M'), 1),
  row(pg_temp.drop_id('socks'), null, 2)]::api.basket_item[]) b;
do $$
begin
  perform api.purchase_basket((select id from basket), pg_temp.user_id('dan'));
  perform pg_temp.tell_of('shoes', 'ann', 'paid');
  perform pg_temp.tell_of('shoes', 'ann', 'refunded', 4);
  perform pg_temp.tell_of('shoes', 'bob', 'failed');
  perform api.finish_provider_call(
    (select id from inventory.provider_calls where payment_id = pg_temp.payment_id('shoes', 'ann')), 'pi_ann', 'secret', 'url');
end
$$;

create function pg_temp.listed(p_drop text, p_statuses text[] default null, p_limit integer default 50, p_after text default null)
returns text[] language sql stable as $$
  select array_agg(concat_ws(' ', substr(l.username, 7), l.status, l.amount, l.refunded_amount))
  from api.list_payments(
    pg_temp.drop_id(p_drop), p_statuses, p_limit, case when p_after is not null then pg_temp.payment_id(p_drop, p_after) end) l
$$;

-- Payments.

select is(pg_temp.listed('shoes'), array['cat pending 10.00 0', 'bob failed 10.00 0', 'ann paid 10.00 4'], 'The payments of a drop, the newest first.');
select is(pg_temp.listed('shoes', p_limit => 2), array['cat pending 10.00 0', 'bob failed 10.00 0'], 'A page has so many.');
select is(pg_temp.listed('shoes', p_limit => 2, p_after => 'bob'), array['ann paid 10.00 4'], 'The next page goes on.');
select is(pg_temp.listed('shoes', array['paid', 'pending']), array['cat pending 10.00 0', 'ann paid 10.00 4'], 'Some statuses only.');
select is(pg_temp.listed('tickets'), array['dan pending 40.00 0'], 'A basket''s payment is listed for each of its drops, once:');
select is(pg_temp.listed('socks'), array['dan pending 40.00 0'], 'for the other one, too.');
select is(
  (select array_agg(l.username order by l.n) from api.list_payments(p_limit => 1000) with ordinality as l (
    id, drop_id, basket_id, user_id, amount, currency, status, refunded_amount, provider, provider_reference, expires_at, paid_at, created,
    updated, username, n) where l.drop_id in (pg_temp.drop_id('shoes'), pg_temp.drop_id('socks'), pg_temp.drop_id('tickets'))),
  array['pgtap dan', 'pgtap cat', 'pgtap bob', 'pgtap ann'], 'Those of all drops.'
);
select is(pg_temp.refusal(v.call), pg_temp.error(v.code, v.sentence), v.call)
from (values
  ('select api.list_payments(gen_random_uuid())', 'DROP_NOT_FOUND', null),
  ('select api.list_payments(p_limit => 0)', 'VALIDATION_ERROR', 'limit: must be between 1 and 1000'),
  ('select api.list_payments(p_statuses => array[''open''])', 'VALIDATION_ERROR',
    'status: must be pending, paid, failed, cancelled or refunded'),
  ('select api.list_payments(p_after => gen_random_uuid())', 'VALIDATION_ERROR', 'cursor: is not of this list; begin again without one')
) as v (call, code, sentence);

-- Problems.

do $$ begin perform pg_temp.tell(pg_temp.payment_id('shoes', 'bob'), 'paid', p_amount => 7, p_currency => 'USD'); end $$;
select results_eq(
  $$select problem, status, amount, currency, refunded_amount, username, payment_status, payment_amount, payment_currency, drop_id, at
    from api.list_payment_problems(2)$$,
  $$values
    ('wrong_amount', 'paid', 7::numeric, 'USD', null::numeric, 'pgtap bob', 'failed', 10.00, 'USD', pg_temp.drop_id('shoes'), now()),
    ('refunded_in_part', 'refunded', null, null, 4, 'pgtap ann', 'paid', 10.00, 'USD', pg_temp.drop_id('shoes'), now())$$,
  'Problems, the newest first, with what the payment is.'
);
select results_eq(
  $$select problem from api.list_payment_problems(1, (select max(id) from api.list_payment_problems(1)))$$,
  $$values ('refunded_in_part')$$, 'The next page goes on.'
);
select results_eq(
  $$select problem from api.list_payment_problems(2, (select max(id) from api.list_payment_problems(1)), now())$$,
  $$values ('refunded_in_part')$$, 'A router goes on after a time and, of that moment, after an id.'
);
select results_eq(
  $$select count(*) from api.list_payment_problems(5, null, now() - interval '1 second')$$, $$values (0::bigint)$$, 'Before a time there are none.'
);
select is(pg_temp.refusal('select api.list_payment_problems(1001)'),
  pg_temp.error('VALIDATION_ERROR', 'limit: must be between 1 and 1000'), 'A page has a limit.');

-- Calls.

do $$ begin perform api.cancel_payment(pg_temp.payment_id('shoes', 'cat'), pg_temp.user_id('cat')); end $$;
create function pg_temp.listed_calls(p_drop text, p_limit integer default 50, p_after uuid default null) returns text[]
language sql stable as $$
  select array_agg(concat_ws(' ', c.action, c.amount, c.currency, c.status))
  from api.list_provider_calls(pg_temp.drop_id(p_drop), p_limit, p_after) c
$$;
select is(
  pg_temp.listed_calls('shoes'),
  array['cancel 10.00 USD open', 'create 10.00 USD open', 'create 10.00 USD open', 'create 10.00 USD done'],
  'What is open comes first, the newest first.'
);
select is(pg_temp.listed_calls('shoes', 1), array['cancel 10.00 USD open'], 'A page has so many.');
select is(
  pg_temp.listed_calls('shoes', 2, (select id from api.list_provider_calls(pg_temp.drop_id('shoes'), 2) offset 1)),
  array['create 10.00 USD open', 'create 10.00 USD done'], 'The next page goes on over what is done.'
);
select is(
  pg_temp.listed_calls('shoes', 2, (select id from api.list_provider_calls(pg_temp.drop_id('shoes'), 4) offset 3)), null,
  'After the last there is nothing.'
);
select ok(
  (select count(*) from api.list_provider_calls(p_limit => 1000) c where c.drop_id in (select id from pg_temp.stored_drops())) = 5,
  'Those of all drops.'
);
select is(pg_temp.refusal(v.call), pg_temp.error(v.code, v.sentence), v.call)
from (values
  ('select api.list_provider_calls(gen_random_uuid())', 'DROP_NOT_FOUND', null),
  ('select api.list_provider_calls(p_limit => 0)', 'VALIDATION_ERROR', 'limit: must be between 1 and 1000'),
  ('select api.list_provider_calls(p_after => gen_random_uuid())', 'VALIDATION_ERROR', 'cursor: is not of this list; begin again without one')
) as v (call, code, sentence);

-- Money.

select results_eq(
  $$select * from api.drop_money(pg_temp.drop_id('shoes'))$$,
  $$values ('USD', 10.00, 4.00, 10.00, '{"paid": 1, "pending": 1, "cancelled": 1}'::jsonb)$$,
  'What was sold, refunded and is open, of a drop.'
);
select results_eq(
  $$select open, counts from api.drop_money(pg_temp.drop_id('socks'))$$, $$values (20.00, '{"pending": 1}'::jsonb)$$,
  'Of a basket only what is of this drop.'
);
select ok((select open >= 50 from api.drop_money() where currency = 'USD'), 'Of all drops.');
select is(pg_temp.refusal('select api.drop_money(gen_random_uuid())'), pg_temp.error('DROP_NOT_FOUND'), 'A drop must exist.');

-- Reconciliation.

create function pg_temp.unsettled(p_older_than integer default 0) returns text[] language sql stable as $$
  select array_agg(concat_ws(' ', substr(u.username, 7), s.status) order by s.id)
  from api.unsettled_payments(p_older_than, null, 1000) s
  join inventory.users u on u.id = s.user_id and u.username like 'pgtap %'
$$;
select is(pg_temp.unsettled(), array['ann paid', 'bob failed', 'cat cancelled', 'dan pending'],
  'What is open, cancelled or refunded in part may be known better by the provider.');
select is(pg_temp.unsettled(60), null, 'What has just changed is left out.');
update inventory.payments set updated_at = now() - interval '8 days' where drop_id = pg_temp.drop_id('shoes');
select is(pg_temp.unsettled(60), array['bob failed'], 'What ended long ago is settled, what is open is not.');
select is(
  (select array_agg(id) from api.unsettled_payments(0, (select id from inventory.payments order by id desc limit 1), 10)), null, 'A page begins after an id.'
);

select * from finish();
rollback;
