-- Money that comes after its payment was cancelled takes the units again, all of them, if they are there; or else it is refunded.
begin;
select plan(34);

select pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan');
select pg_temp.make_drop('shoes', 2);
select pg_temp.make_drop('last', 1);
select pg_temp.make_drop('gone', 5);
select pg_temp.make_drop('over', 5);
select pg_temp.make_drop('due', 1);
select pg_temp.make_sizes('tickets');
select pg_temp.make_drop_with('limited', '{"limit_per_user": 2}');
select api.set_payment_provider('stripe', 600);

create function pg_temp.cancel(p_drop text, p_user text) returns text language sql as $$
  select status from api.cancel_payment(pg_temp.payment_id(p_drop, p_user), pg_temp.user_id(p_user))
$$;

-- The units are there.

select pg_temp.buy('shoes', 'ann');
select is(pg_temp.cancel('shoes', 'ann'), 'cancelled', 'A payment is cancelled.');
select is(pg_temp.stock_of('shoes'), 2, 'Its unit is back.');
select is(pg_temp.tell_of('shoes', 'ann', 'paid'), 'applied paid', 'Late money takes it again.');
select is(pg_temp.stock_of('shoes'), 1, 'It is taken.');
select is(pg_temp.purchases_on('shoes'), array['ann paid'], 'It is the same purchase.');
select is(pg_temp.calls_of('shoes'), array['ann create 10.00', 'ann cancel 10.00 done'],
  'The provider is not told any more to cancel it.');
select pg_temp.buy('shoes', 'bob');
select pg_temp.let_payment_run_out('shoes', 'bob');
select is(pg_temp.tell_of('shoes', 'bob', 'paid'), 'applied paid', 'A payment that is due, but not swept, keeps its unit.');
select is(pg_temp.stock_of('shoes'), 0, 'It is taken once.');

-- They are not.

select pg_temp.buy('last', 'ann');
select is(pg_temp.cancel('last', 'ann'), 'cancelled', 'The last unit is given back.');
select pg_temp.hold('last', 'bob');
select is(pg_temp.tell_of('last', 'ann', 'paid'), 'flagged too_late refunded', 'Somebody else has the last unit.');
select is(pg_temp.purchases_on('last'), array['ann cancelled'], 'The purchase stays cancelled.');
select is(pg_temp.calls_of('last'), array['ann create 10.00', 'ann cancel 10.00 done', 'ann refund 10.00'],
  'The provider is to pay the money back.');
select results_eq(
  $$select refunded_amount, paid_at from inventory.payments where id = pg_temp.payment_id('last', 'ann')$$, $$values (10.00, now())$$,
  'The payment says so.'
);
select is(pg_temp.tell_of('last', 'ann', 'refunded'), 'unchanged refunded', 'The provider confirms it.');
select is(pg_temp.tell_of('last', 'ann', 'paid'), 'unchanged refunded', 'The money that came is not told of twice.');

-- A refund of a part at the provider tells of the money, too.

select pg_temp.make_drop('parts', 2);
select pg_temp.buy('parts', 'ann', 'bob');
do $$ begin perform pg_temp.cancel('parts', 'ann'), pg_temp.cancel('parts', 'bob'); end $$;
select pg_temp.hold('parts', 'cat');
select is(pg_temp.tell_of('parts', 'ann', 'refunded', 4), 'flagged refunded_in_part paid', 'The late money takes the unit again.');
select is(pg_temp.stock_of('parts'), 0, 'It is taken.');
select is(pg_temp.tell_of('parts', 'bob', 'refunded', 4), 'flagged too_late refunded', 'There is no unit for the other one.');
select is(pg_temp.tell_of('parts', 'bob', 'paid'), 'unchanged refunded', 'The money that came is not told of twice.');
select is((pg_temp.calls_of('parts'))[5:], array['bob refund 6.00'], 'The provider is to pay back what is left.');
select results_eq(
  $$select p.status, y.status, y.refunded_amount from inventory.purchases p join inventory.payments y on y.id = p.payment_id
    where y.drop_id = pg_temp.drop_id('parts') order by y.refunded_amount$$,
  $$values ('paid', 'paid', 4.00), ('cancelled', 'refunded', 10.00)$$, 'The first one keeps the unit.'
);

-- The hold that has the last unit is due: by the clock the unit is there.

select pg_temp.buy('due', 'ann');
do $$ begin perform pg_temp.cancel('due', 'ann'); end $$;
select pg_temp.hold('due', 'bob');
select pg_temp.let_run_out('due', 'bob');
select is(pg_temp.tell_of('due', 'ann', 'paid'), 'applied paid', 'What is due is taken back for it.');

-- The drop.

select pg_temp.buy('gone', 'ann', 'bob');
do $$ begin perform api.update_drop(pg_temp.drop_id('gone'), '{"status": "cancelled"}'); end $$;
select is(pg_temp.purchases_on('gone'), array['ann cancelled', 'bob cancelled'], 'A cancelled drop cancels what is not paid.');
select is(pg_temp.stock_of('gone'), 5, 'The units are back.');
select is(pg_temp.tell_of('gone', 'ann', 'paid'), 'flagged too_late refunded', 'Nothing of a cancelled drop is sold any more.');
select pg_temp.buy('over', 'ann');
do $$ begin perform pg_temp.cancel('over', 'ann'); end $$;
do $$ begin perform api.update_drop(pg_temp.drop_id('over'), '{"status": "ended"}'); end $$;
select is(pg_temp.tell_of('over', 'ann', 'paid'), 'applied paid', 'A drop that is over keeps its promise.');

-- Limits.

select pg_temp.buy('limited', 'ann');
do $$ begin perform pg_temp.cancel('limited', 'ann'); end $$;
do $$
begin
  perform api.reserve(pg_temp.drop_id('limited'), pg_temp.user_id('ann'), p_qty => 2);
end
$$;
select is(pg_temp.tell_of('limited', 'ann', 'paid'), 'flagged too_late refunded', 'Nobody gets more than the limit by it.');

-- Baskets: all or nothing.

create temp table basket on commit drop as
select (b.basket).id
from api.reserve_basket(pg_temp.user_id('dan'), array[
  row(pg_temp.drop_id('tickets'), pg_temp.variant_id('tickets', 'S'), 2),
  row(pg_temp.drop_id('limited'), null, 1)]::api.basket_item[]) b;
select is((select count(*) from basket, api.purchase_basket(basket.id, pg_temp.user_id('dan'))), 2::bigint, 'A basket is bought.');
do $$ begin perform pg_temp.cancel('tickets', 'dan'); end $$;
select is(pg_temp.variants_of('tickets'), array['S 2 of 2 at 10.00', 'M 5 of 5 at 10.00'], 'Its units are back.');
select is(pg_temp.tell_of('tickets', 'dan', 'paid'), 'applied paid', 'Late money takes all of them again.');
select is(pg_temp.variants_of('tickets') || pg_temp.stock_of('limited')::text, array['S 0 of 2 at 10.00', 'M 5 of 5 at 10.00', '7'],
  'They are taken from each variant and drop.');
do $$
begin
  perform api.reserve(pg_temp.drop_id('tickets'), pg_temp.user_id('bob'), p_variant_id => pg_temp.variant_id('tickets', 'M'), p_qty => 5);
  perform api.purchase(pg_temp.drop_id('tickets'), pg_temp.user_id('bob'));
end
$$;
select is(pg_temp.cancel('tickets', 'bob'), 'cancelled', 'Five of size M are given back.');
do $$
begin
  perform api.reserve(pg_temp.drop_id('tickets'), pg_temp.user_id('ann'), p_variant_id => pg_temp.variant_id('tickets', 'M'));
end
$$;
select is(pg_temp.tell_of('tickets', 'bob', 'paid'), 'flagged too_late refunded', 'Four of size M are not five.');
select is_empty('select * from pg_temp.findings()', 'The books balance.');

select * from finish();
rollback;
