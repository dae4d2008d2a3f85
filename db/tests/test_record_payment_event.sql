-- api.record_payment_event: what a provider tells is kept once, and what a payment becomes does not depend on the order.
begin;
select plan(91);

select pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan', 'eve', 'fay', 'gil', 'hal');
select pg_temp.make_drop('shoes', 100);
select api.set_payment_provider('stripe', 600);
select pg_temp.buy('shoes', 'ann', 'bob', 'cat', 'dan', 'eve', 'fay', 'gil', 'hal');

-- What it becomes.

update inventory.payments set updated_at = now() - interval '1 day' where drop_id = pg_temp.drop_id('shoes');
select is(pg_temp.tell(pg_temp.payment_id('shoes', 'ann'), 'paid', p_event_id => 'first', p_amount => 10, p_currency => 'usd'),
  'applied paid', 'A payment is paid.');
select results_eq(
  $$select status, updated_at from inventory.purchases where id = pg_temp.purchase_id('shoes', 'ann')$$, $$values ('paid', now())$$,
  'So is its purchase.'
);
select results_eq(
  $$select paid_at, updated_at from inventory.payments where id = pg_temp.payment_id('shoes', 'ann')$$, $$values (now(), now())$$,
  'The time is noted.'
);
select is(pg_temp.tell(pg_temp.payment_id('shoes', 'ann'), 'refunded', p_event_id => 'first'), 'unchanged paid',
  'An event of the same id changes nothing.');
select is(pg_temp.tell_of('shoes', 'bob', 'failed'), 'applied failed', 'A payment fails.');
select is((select status from inventory.purchases where id = pg_temp.purchase_id('shoes', 'bob')), 'pending',
  'Its purchase stays pending, because the buyer may try again.');
select is(pg_temp.tell_of('shoes', 'bob', 'failed'), 'unchanged failed', 'It fails again.');
select is(pg_temp.tell_of('shoes', 'bob', 'paid'), 'applied paid', 'Then it is paid.');
select is(pg_temp.tell_of('shoes', 'bob', v.status), 'unchanged paid', 'What comes late after that changes nothing: ' || v.status)
from (values ('failed'), ('cancelled'), ('paid')) as v (status);
select is(pg_temp.tell_of('shoes', 'cat', 'cancelled'), 'applied cancelled', 'The provider cancels a payment.');
select is(pg_temp.stock_of('shoes'), 93, 'Its unit goes back.');
select is(pg_temp.tell_of('shoes', 'cat', v.status), 'unchanged cancelled', 'It stays cancelled: ' || v.status)
from (values ('failed'), ('cancelled')) as v (status);
select is(pg_temp.tell_of('shoes', 'bob', 'refunded'), 'applied refunded', 'The provider refunds all.');
select results_eq(
  $$select status, refunded_qty, refunded_amount, refunded_at from inventory.purchases where id = pg_temp.purchase_id('shoes', 'bob')$$,
  $$values ('refunded', 1, 10.00, now())$$, 'So the purchase is refunded.'
);
select is(pg_temp.stock_of('shoes'), 94, 'Its unit goes back.');
select is(pg_temp.tell_of('shoes', 'bob', v.status), 'unchanged refunded', 'It stays refunded: ' || v.status)
from (values ('paid'), ('failed'), ('cancelled'), ('refunded')) as v (status);
select is(
  pg_temp.calls_of('shoes'),
  array['ann create 10.00', 'bob create 10.00', 'cat create 10.00', 'dan create 10.00', 'eve create 10.00', 'fay create 10.00',
    'gil create 10.00', 'hal create 10.00'],
  'What the provider has said itself it is not told.'
);

-- In part.

select is(pg_temp.tell_of('shoes', 'dan', 'refunded', 4), 'flagged refunded_in_part paid',
  'A part is refunded before the payment is told of. So it was paid.');
select is(pg_temp.tell_of('shoes', 'dan', 'refunded', 3), 'unchanged paid', 'An older part changes nothing.');
select is(pg_temp.tell_of('shoes', 'dan', 'paid'), 'unchanged paid', 'Then it is told of.');
select is(pg_temp.tell_of('shoes', 'dan', 'refunded', 6), 'flagged refunded_in_part paid', 'A larger part is noted.');
select results_eq(
  $$
    select p.status, p.refunded_qty, y.refunded_amount from inventory.purchases p join inventory.payments y on y.id = p.payment_id
    where p.id = pg_temp.purchase_id('shoes', 'dan')
  $$,
  $$values ('paid', 0, 6::numeric)$$, 'The unit stays sold.'
);
select is(pg_temp.tell_of('shoes', 'dan', 'refunded', 10), 'applied refunded', 'The rest makes it whole.');

-- Any order of the same events ends the same.

create function pg_temp.in_order(p_statuses text[]) returns text language plpgsql as $$
declare
  v_status text;
begin
  perform api.ensure_user(pg_temp.user_id('one'), 'pgtap one');
  perform pg_temp.buy('shoes', 'one');
  foreach v_status in array p_statuses loop
    perform pg_temp.tell_of('shoes', 'one', v_status);
  end loop;
  raise exception 'P%', (
    select concat_ws(' ', y.status, p.status, pg_temp.stock_of('shoes'))
    from inventory.purchases p join inventory.payments y on y.id = p.payment_id
    where p.id = pg_temp.purchase_id('shoes', 'one'));
exception when raise_exception then
  return substr(sqlerrm, 2);
end
$$;
select is(pg_temp.in_order(array[a.status, b.status, c.status]), 'refunded refunded ' || pg_temp.stock_of('shoes'),
  format('%s, %s, %s', a.status, b.status, c.status))
from unnest(array['failed', 'paid', 'refunded']) as a (status)
cross join unnest(array['failed', 'paid', 'refunded']) as b (status)
cross join unnest(array['failed', 'paid', 'refunded']) as c (status)
where a.status <> b.status and b.status <> c.status and a.status <> c.status;
select is(pg_temp.in_order(array[a.status, b.status, c.status]), 'paid paid ' || pg_temp.stock_of('shoes') - 1,
  format('%s, %s, %s', a.status, b.status, c.status))
from unnest(array['failed', 'paid', 'cancelled']) as a (status)
cross join unnest(array['failed', 'paid', 'cancelled']) as b (status)
cross join unnest(array['failed', 'paid', 'cancelled']) as c (status)
where a.status <> b.status and b.status <> c.status and a.status <> c.status;
select is(pg_temp.in_order(array['cancelled', 'refunded', 'paid']), 'refunded cancelled ' || pg_temp.stock_of('shoes'),
  'A cancelled payment that was refunded gives its unit back once.');

-- Problems.

select is(v.told, v.expected, v.description)
from (values
  (pg_temp.tell(gen_random_uuid(), 'paid'), 'flagged unknown_payment', 'A payment that does not exist is flagged.'),
  (pg_temp.tell(null, 'paid'), 'flagged unknown_payment', 'So is one that is not named.'),
  (pg_temp.tell(pg_temp.payment_id('shoes', 'eve'), 'paid', p_provider => 'webhook'), 'flagged unknown_payment',
    'So is one of another provider.'),
  (pg_temp.tell(pg_temp.payment_id('shoes', 'eve'), 'paid', p_amount => 9.99), 'flagged wrong_amount pending',
    'Another amount does not pay it.'),
  (pg_temp.tell(pg_temp.payment_id('shoes', 'eve'), 'paid', p_currency => 'EUR'), 'flagged wrong_currency pending',
    'Nor does another currency.'),
  (pg_temp.tell(pg_temp.payment_id('shoes', 'eve'), 'paid', p_problem => 'wrong_mode'), 'flagged wrong_mode pending',
    'Nor does a test.'),
  (pg_temp.tell(pg_temp.payment_id('shoes', 'ann'), 'refunded', p_currency => 'EUR'), 'flagged wrong_currency paid',
    'A refund in another currency is none of this payment,'),
  (pg_temp.tell(pg_temp.payment_id('shoes', 'ann'), 'refunded', p_refunded_amount => 4, p_currency => 'EUR'),
    'flagged wrong_currency paid', 'nor is a part of it.'),
  (pg_temp.tell(pg_temp.payment_id('shoes', 'ann'), 'refunded', p_amount => 4), 'flagged wrong_amount paid',
    'A refund of a payment of another amount is none either.')
) as v (told, expected, description);
select results_eq(
  $$select p.status, y.refunded_amount from inventory.purchases p join inventory.payments y on y.id = p.payment_id
    where p.id in (pg_temp.purchase_id('shoes', 'ann'), pg_temp.purchase_id('shoes', 'eve')) order by p.status$$,
  $$values ('paid', 0::numeric), ('pending', 0)$$, 'Nothing was changed.'
);

-- What is kept.

select results_eq(
  $$select provider, event_id, payment_id, status, amount, currency, body, outcome, problem, received_at from inventory.payment_events
    where event_id = 'first'$$,
  $$select 'stripe', 'first', pg_temp.payment_id('shoes', 'ann'), 'paid', 10::numeric, 'usd', '{}', 'applied', null, now()$$,
  'An event is kept as it came.'
);
set constraints inventory.payment_events_tell immediate; -- else TRUNCATE is refused because of them
select throws_ok(v.statement, '23001', null, v.description)
from (values
  ('update inventory.payment_events set outcome = ''unchanged''', 'What was kept is not changed,'),
  ('delete from inventory.payment_events', 'nor deleted,'), ('truncate inventory.payment_events', 'nor emptied.')
) as v (statement, description);
select is(pg_temp.refusal(format('select api.record_payment_event(%s)', v.event)), pg_temp.error('VALIDATION_ERROR', v.sentence), v.sentence)
from (values
  ('row(null, ''e'', null, null, ''paid'', null, null, null, ''{}'', null)', 'p_event: must have provider, event_id and body'),
  ('row(''stripe'', null, null, null, ''paid'', null, null, null, ''{}'', null)', 'p_event: must have provider, event_id and body'),
  ('row(''stripe'', ''e'', null, null, ''paid'', null, null, null, null, null)', 'p_event: must have provider, event_id and body'),
  ('row(''stripe'', ''e'', null, null, ''pending'', null, null, null, ''{}'', null)', 'status: must be paid, failed, cancelled or refunded'),
  ('row(''stripe'', ''e'', null, null, null, null, null, null, ''{}'', null)', 'status: must be paid, failed, cancelled or refunded')
) as v (event, sentence);

-- The id at the provider.

select is(
  (select concat_ws(' ', e.outcome, (e.payment).status) from api.record_payment_event(
    row('stripe', 'by id', pg_temp.payment_id('shoes', 'fay'), 'pi_fay', 'failed', null, null, null, '{}', null)) e),
  'applied failed', 'An event may come before the answer to the call that creates the payment;'
);
select is((select provider_reference from inventory.payments where id = pg_temp.payment_id('shoes', 'fay')), 'pi_fay',
  'then the id at the provider is known by it.');
select is(
  (select concat_ws(' ', e.outcome, (e.payment).status) from api.record_payment_event(
    row('stripe', 'by reference', null, 'pi_fay', 'paid', null, null, null, '{}', null)) e),
  'applied paid', 'A payment is found by its id at the provider.'
);
select is(
  (select concat_ws(' ', e.outcome, (e.payment).status) from api.record_payment_event(
    row('stripe', 'same reference', pg_temp.payment_id('shoes', 'gil'), 'pi_fay', 'failed', null, null, null, '{}', null)) e),
  'applied failed', 'An id that another payment has is not noted.'
);

-- Money that is taken twice, under two ids at the provider.

create function pg_temp.tell_hal(p_status text, p_reference text, p_refunded_amount numeric default null) returns text language sql as $$
  select pg_temp.tell(pg_temp.payment_id('shoes', 'hal'), p_status, p_refunded_amount, p_reference => p_reference)
$$;
select is(pg_temp.tell(pg_temp.payment_id('shoes', 'hal'), 'paid', p_amount => 9, p_reference => 'ch_0'), 'flagged wrong_amount pending',
  'What does not pay a payment');
select is(pg_temp.tell_hal('paid', 'ch_1'), 'applied paid', 'does not count.');
select is((select provider_reference from inventory.payments where id = pg_temp.payment_id('shoes', 'hal')), 'ch_1',
  'The money that pays it is the one that a refund names.');
select is(pg_temp.tell_hal('paid', null), 'unchanged paid', 'If it is told again, without an id,');
select is(pg_temp.tell_hal('paid', 'ch_1'), 'unchanged paid', 'or with the same one, nothing is wrong.');
select is(pg_temp.tell_hal('paid', 'ch_2'), 'flagged paid_twice paid', 'Under another id it was paid a second time.');
select is(pg_temp.tell_hal('paid', 'ch_2'), 'unchanged paid', 'That is flagged once.');
select is(pg_temp.tell_hal('paid', 'ch_1'), 'unchanged paid', 'The first id stays that of the payment.');
select is(pg_temp.tell_hal('refunded', 'ch_2', v.refunded_amount), 'unchanged paid', 'The second payment may be paid back.')
from (values (4), (null)) as v (refunded_amount);
select is(pg_temp.tell_hal('refunded', 'ch_1'), 'applied refunded', 'So may the first one, and then the unit goes back.');
select is(pg_temp.tell_hal('paid', 'ch_3'), 'flagged paid_twice refunded', 'Nobody has paid back a third one.');

-- In another order: a refund tells that its money was paid, too.
create function pg_temp.tell_of_twice(p_drop text, p_status text, p_reference text, p_refunded_amount numeric default null)
returns text language sql as $$
  select pg_temp.tell(
    pg_temp.payment_id(p_drop, 'ann'), p_status, p_refunded_amount, p_reference => p_drop || p_reference,
    p_amount => case when p_reference = ' small' then 9 end)
$$;
do $$
begin
  perform pg_temp.make_drops('late', 'small', 'part', 'early');
  perform pg_temp.buy(name, 'ann') from unnest(array['late', 'small', 'part', 'early']) name;
end
$$;
select is(pg_temp.tell_of_twice(v.drop_name, v.status, v.reference, v.refunded_amount), v.answer, v.description)
from (values
  (1, 'late', 'paid', ' 1', null, 'applied paid', 'Money came.'),
  (2, 'late', 'refunded', ' 2', null, 'flagged paid_twice paid', 'If other money is refunded before it is told of, the sale stays.'),
  (3, 'late', 'paid', ' 2', null, 'unchanged paid', 'That it was paid is known by then.'),
  (4, 'late', 'refunded', ' 1', null, 'applied refunded', 'The sale ends with the refund of its own money.'),
  (5, 'small', 'paid', ' 1', null, 'applied paid', 'Money came,'),
  (6, 'small', 'paid', ' small', null, 'flagged wrong_amount paid', 'and then too little under another id.'),
  (7, 'small', 'refunded', ' small', 9, 'flagged wrong_amount paid', 'Its refund is none of the sale,'),
  (8, 'small', 'refunded', ' 3', null, 'flagged paid_twice paid', 'nor is that of money that is not known.'),
  (9, 'part', 'refunded', ' 1', 4, 'flagged refunded_in_part paid', 'A refund of a part tells that its money came,'),
  (10, 'part', 'paid', ' 2', null, 'flagged paid_twice paid', 'so money under another id is a second payment.'),
  (11, 'part', 'paid', ' 1', null, 'unchanged paid', 'The first money is told of late.'),
  (12, 'early', 'refunded', ' 1', null, 'applied refunded', 'What was refunded before it was told of'),
  (13, 'early', 'paid', ' 2', null, 'flagged paid_twice refunded', 'was not the money that comes now.')
) as v (n, drop_name, status, reference, refunded_amount, answer, description)
order by v.n;
select is_empty('select * from pg_temp.findings()', 'The books balance.');

select * from finish();
rollback;
