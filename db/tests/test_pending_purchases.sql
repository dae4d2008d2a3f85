-- With a provider of payments a purchase is pending and has a payment, which the provider is to create. Without one it is paid.
begin;
select plan(29);

select pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan', 'eve');
select pg_temp.make_drop('shoes', 5);
select pg_temp.make_sizes('tickets', '{"currency": "EUR"}');
select pg_temp.make_drop_with('free', '{}', 0);
select pg_temp.buy('shoes', 'eve');

-- Without a provider.

select is(pg_temp.purchases_on('shoes'), array['eve paid'], 'Without a provider a purchase is paid at once.');
select is(pg_temp.payment_id('shoes', 'eve'), null, 'It has no payment.');
select is(pg_temp.calls_of('shoes'), null, 'Nobody is to be told.');

-- The settings.

select is(pg_temp.refusal(format('select api.set_payment_provider(%s, %s)', v.provider, v.ttl_seconds)),
  pg_temp.error('VALIDATION_ERROR', v.sentence), v.description)
from (values
  ('''paypal''', '600', 'p_provider: must be none, stripe or webhook', 'A provider must be known.'),
  ('null', '600', 'p_provider: must be none, stripe or webhook', 'A provider must be named.'),
  ('''stripe''', '0', 'p_ttl_seconds: must be between 1 and 604800', 'A payment takes time.'),
  ('''stripe''', '604801', 'p_ttl_seconds: must be between 1 and 604800', 'It takes a week at most.'),
  ('''stripe''', 'null', 'p_ttl_seconds: must be between 1 and 604800', 'The time must be said.')
) as v (provider, ttl_seconds, sentence, description);
select lives_ok($$select api.set_payment_provider('stripe', 600)$$, 'A provider is set.');

-- One purchase.

select pg_temp.hold('shoes', 'ann', 'bob', 'cat');
create temp table bought on commit drop as
select * from api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key');
select results_eq(
  'select status, amount, refunded_qty, payment_id is not null, replayed from bought', $$values ('pending', 10.00, 0, true, false)$$,
  'A purchase is pending and says which payment it has.'
);
select results_eq(
  'select * from pg_temp.stored_purchases() where user_id = pg_temp.user_id(''ann'')',
  $$
    select
      id, drop_id, variant_id, reservation_id, user_id, qty, unit_price, currency, amount, status, refunded_amount, refunded_at,
      "createdAt", "updatedAt", refunded_qty, payment_id
    from bought
  $$,
  'What comes back is what is stored.'
);
select results_eq(
  $$
    select y.drop_id, y.basket_id, y.user_id, y.amount, y.currency, y.status, y.refunded_amount, y.provider, y.provider_reference,
      y.client_secret, y.url, y.expires_at, y.paid_at, y."createdAt", y."updatedAt"
    from bought, api.get_payment(bought.payment_id, bought.user_id) y
  $$,
  $$
    select pg_temp.drop_id('shoes'), null::uuid, pg_temp.user_id('ann'), 10.00, 'USD', 'pending', 0::numeric, 'stripe', null, null, null,
      now() + interval '600 s', null::timestamptz, now(), now()
  $$,
  'The payment has the amount of the purchase and ends after payment_ttl_seconds.'
);
select is(pg_temp.stock_of('shoes'), 1, 'The units stay taken.');
select is(pg_temp.calls_of('shoes'), array['ann create 10.00'], 'The provider is to create the payment.');

-- What is told of the stock: of five units eve's is paid, ann's is to be paid, and bob and cat hold one each.

create function pg_temp.shown_of(p_drop text) returns text[] language sql as $$
  select array[
    s.data #>> '{drops,0,available_stock}', s.data #>> '{drops,0,activity_feed,held_stock}',
    a.drops #>> '{0,points,-1,held}', (select sum((p ->> 'sold')::integer) from json_array_elements(a.drops #> '{0,points}') p)::text]
  from api.snapshot(array[pg_temp.drop_id(p_drop)]) s, api.activity(60, array[pg_temp.drop_id(p_drop)]) a
$$;
select is(pg_temp.shown_of('shoes'), '{1,3,3,1}', 'What is to be paid counts as held, and not as sold, in the drop and in its chart.');
update inventory.purchases set payment_expires_at = now() where id = (select id from bought);
update inventory.drops set nothing_due_before = now() where id = pg_temp.drop_id('shoes');
select is(pg_temp.shown_of('shoes'), '{2,2,2,1}', 'When its payment is due it counts as stock.');
update inventory.purchases set payment_expires_at = now() + interval '600 s' where id = (select id from bought);
update inventory.purchases set status = 'paid' where id = (select id from bought);
select is(pg_temp.shown_of('shoes'), '{1,2,2,2}', 'When it is paid it is sold.');
update inventory.purchases set status = 'pending' where id = (select id from bought);
select results_eq(
  $$select id, payment_id, status, replayed from api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key')$$,
  'select id, payment_id, status, true from bought', 'A repeated key returns the purchase with its payment.'
);
select is(pg_temp.refusal($$select api.get_payment(pg_temp.payment_id('shoes', 'ann'), pg_temp.user_id('bob'))$$),
  pg_temp.error('PAYMENT_NOT_FOUND'), 'Another user does not find it.');
select is(pg_temp.refusal($$select api.get_payment(gen_random_uuid(), pg_temp.user_id('bob'))$$),
  pg_temp.error('PAYMENT_NOT_FOUND'), 'One that does not exist is not found.');

-- Several in one call, and a hold that lasts longer than a payment.

update inventory.reservations set expires_at = now() + interval '1 hour' where id = pg_temp.hold_id('shoes', 'cat');
select is(pg_temp.purchase_all('shoes', 'bob', 'cat', 'bob'), array[null, null, 'NO_ACTIVE_RESERVATION'],
  'A batch makes a purchase for each hold.');
select results_eq(
  $$
    select y.user_id, y.amount, y.expires_at from inventory.payments y
    where y.drop_id = pg_temp.drop_id('shoes') and y.user_id <> pg_temp.user_id('ann') order by y.id
  $$,
  $$values
    (pg_temp.user_id('bob'), 10.00, now() + interval '600 s'), (pg_temp.user_id('cat'), 10.00, now() + interval '1 hour')$$,
  'Each has a payment of its own; none ends before the hold would have.'
);

-- What is free.

select pg_temp.buy('free', 'ann');
select is(pg_temp.purchases_on('free'), array['ann paid'], 'What is free is paid at once.');
select is(pg_temp.payment_id('free', 'ann'), null, 'It has no payment.');

-- Baskets.

create temp table basket on commit drop as
select (b.basket).id
from api.reserve_basket(pg_temp.user_id('dan'), array[
  row(pg_temp.drop_id('tickets'), pg_temp.variant_id('tickets', 'S'), 1),
  row(pg_temp.drop_id('tickets'), pg_temp.variant_id('tickets', 'M'), 2),
  row(pg_temp.drop_id('shoes'), null, 1), row(pg_temp.drop_id('free'), null, 1)]::api.basket_item[]) b;
update inventory.drops set currency = 'USD' where id = pg_temp.drop_id('tickets');
select is(
  pg_temp.refusal(format('select api.purchase_basket(%L, %L)', basket.id, pg_temp.user_id('dan'))),
  pg_temp.error('SEVERAL_CURRENCIES'), 'One payment cannot be in two currencies.'
)
from basket;
update inventory.reservations set currency = 'USD' where basket_id = (select id from basket);
create temp table basket_sale on commit drop as
select (p.purchase).*, p.replayed from basket, api.purchase_basket(basket.id, pg_temp.user_id('dan')) p;
select results_eq(
  'select status, amount, payment_id is null from basket_sale',
  $$values ('pending', 10.00, false), ('pending', 20.00, false), ('pending', 10.00, false), ('paid', 0.00, true)$$,
  'The purchases of a basket are pending; what is free in it is paid.'
);
select results_eq(
  'select y.amount, y.basket_id, y.currency from inventory.payments y where y.id in (select payment_id from basket_sale)',
  'select 40.00, id, ''USD'' from basket', 'They have one payment.'
);
select results_eq(
  $$select (p.purchase).status, p.replayed from basket, api.purchase_basket(basket.id, pg_temp.user_id('dan')) p$$,
  $$values ('pending', true), ('pending', true), ('pending', true), ('paid', true)$$, 'A repeated call returns them.'
);
select is_empty('select * from pg_temp.findings()', 'The books balance.');

select * from finish();
rollback;
