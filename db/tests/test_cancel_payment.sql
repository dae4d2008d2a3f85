-- api.cancel_payment: a buyer lets a payment go that is not paid, and its units go back.
begin;
select plan(15);

select pg_temp.make_users('seller', 'ann', 'bob', 'cat');
select pg_temp.make_drop('shoes', 5);
select pg_temp.make_sizes('tickets');
select api.set_payment_provider('stripe', 600);
select pg_temp.buy('shoes', 'ann', 'bob');

create function pg_temp.cancelling(p_drop text, p_owner text, p_user text) returns text language sql as $$
  select pg_temp.refusal(format(
    'select api.cancel_payment(%L, %L)', pg_temp.payment_id(p_drop, p_owner), pg_temp.user_id(p_user)))
$$;

create temp table answered on commit drop as
select * from api.cancel_payment(pg_temp.payment_id('shoes', 'ann'), pg_temp.user_id('ann'));
select results_eq(
  'table answered',
  $$select * from api.get_payment(pg_temp.payment_id('shoes', 'ann'), pg_temp.user_id('ann'))$$,
  'What comes back is the payment.'
);
select results_eq(
  $$
    select y.status, p.status, y.updated_at, p.updated_at from inventory.payments y join inventory.purchases p on p.payment_id = y.id
    where y.id = pg_temp.payment_id('shoes', 'ann')
  $$,
  $$values ('cancelled', 'cancelled', now(), now())$$, 'It is cancelled, and so is its purchase.'
);
select is(pg_temp.stock_of('shoes'), 4, 'The unit is back.');
select is(pg_temp.calls_of('shoes'), array['ann create 10.00', 'bob create 10.00', 'ann cancel 10.00'], 'The provider is told.');
select is(pg_temp.cancelling('shoes', 'ann', 'ann'), 'nothing was raised', 'To cancel it again is no error.');
select is(pg_temp.stock_of('shoes'), 4, 'The unit comes back once.');
select is(cardinality(pg_temp.calls_of('shoes')), 3, 'The provider is told once.');
select is(pg_temp.cancelling('shoes', 'bob', 'ann'), pg_temp.error('PAYMENT_NOT_FOUND'), 'Another user''s is not found.');
select is(pg_temp.tell_of('shoes', 'bob', 'failed'), 'applied failed', 'A payment that failed');
select is(pg_temp.cancelling('shoes', 'bob', 'bob'), 'nothing was raised', 'may be cancelled.');
do $$
begin
  perform pg_temp.buy('shoes', 'cat');
  perform pg_temp.tell_of('shoes', 'cat', 'paid');
end
$$;
select is(pg_temp.cancelling('shoes', 'cat', 'cat'),
  pg_temp.error('INVALID_STATUS_CHANGE', 'A payment that is paid cannot be cancelled.'), 'One that is paid may not.');

-- A basket of several drops and variants.

create temp table basket on commit drop as
select (b.basket).id
from api.reserve_basket(pg_temp.user_id('ann'), array[
  row(pg_temp.drop_id('tickets'), pg_temp.variant_id('tickets', 'S'), 1),
  row(pg_temp.drop_id('tickets'), pg_temp.variant_id('tickets', 'M'), 3),
  row(pg_temp.drop_id('shoes'), null, 2)]::api.basket_item[]) b;
select is((select count(*) from basket, api.purchase_basket(basket.id, pg_temp.user_id('ann'))), 3::bigint, 'A basket is bought.');
select is(pg_temp.cancelling('tickets', 'ann', 'ann'), 'nothing was raised', 'Its payment is cancelled.');
select is(pg_temp.variants_of('tickets') || pg_temp.stock_of('shoes')::text, array['S 2 of 2 at 10.00', 'M 5 of 5 at 10.00', '4'],
  'All of its units are back.');
select is_empty('select * from pg_temp.findings()', 'The books balance.');

select * from finish();
rollback;
