-- A payment that is not paid in time is cancelled: by the clock in every read, and for good by a sweep or by a reserve that needs its
-- units.
begin;
select plan(49);

select pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan');
select pg_temp.make_drop('shoes', 3);
select pg_temp.make_sizes('tickets', '{"limit_per_user": 2}');
select pg_temp.make_drop('other', 1);
select pg_temp.make_drop('less', 5);
select api.set_payment_provider('stripe', 600);

-- Reads.

select pg_temp.buy('shoes', 'ann', 'bob');
select pg_temp.let_payment_run_out('shoes', 'ann');
select is(pg_temp.stock_of('shoes'), 1, 'Nothing has taken the unit back.');
select is((select available_stock from api.get_drop(pg_temp.drop_id('shoes'))), 2, 'api.get_drop shows it as stock.');
select is((select available_stock from api.list_drops(p_limit => 1000) where id = pg_temp.drop_id('shoes')), 2, 'So does api.list_drops.');
select is((select status from api.get_payment(pg_temp.payment_id('shoes', 'ann'), pg_temp.user_id('ann'))), 'cancelled',
  'The payment reads as cancelled.');
select is((select status from api.get_purchase(pg_temp.purchase_id('shoes', 'ann'), pg_temp.user_id('ann'))), 'cancelled',
  'So does its purchase.');
select is((select status from api.my_purchases(pg_temp.user_id('ann'))), 'cancelled', 'The buyer''s list says so,');
select results_eq(
  $$select status, username from api.list_purchases(pg_temp.drop_id('shoes')) order by username$$,
  $$values ('cancelled', 'pgtap ann'), ('pending', 'pgtap bob')$$, 'and that of the seller.'
);
select results_eq(
  format('select status from api.list_purchases(pg_temp.drop_id(''shoes''), %L)', v.status), array[v.status], 'It may be asked for: ' || v.status
)
from (values ('cancelled'), ('pending')) as v (status);
select results_eq(
  format('select status from api.list_payments(pg_temp.drop_id(''shoes''), array[%L])', v.status), array[v.status],
  'So may payments: ' || v.status
)
from (values ('cancelled'), ('pending')) as v (status);
select is((select counts from api.drop_money(pg_temp.drop_id('shoes'))), '{"pending": 1, "cancelled": 1}', 'The money says so.');
select is(
  (select (a.drops -> 0 -> 'points' -> -1) - 'at' from (select drops::jsonb as drops from api.activity(600, array[pg_temp.drop_id('shoes')])) a),
  '{"sold": 0, "held": 1, "available": 2}', 'The chart says so. What bob may still pay is held.'
);
select is(pg_temp.refusal($$select api.refund_purchase(pg_temp.purchase_id('shoes', 'ann'))$$),
  pg_temp.error('INVALID_STATUS_CHANGE', 'A purchase that is cancelled cannot be refunded.'), 'So does a refusal.');

-- A sweep.

select is(api.expire_payments(), 1, 'A sweep cancels it.');
select is(pg_temp.purchases_on('shoes'), array['ann cancelled', 'bob pending'], 'The purchase is cancelled, the other one is not.');
select is(pg_temp.stock_of('shoes'), 2, 'The unit is back.');
select results_eq(
  $$select status, updated_at from inventory.payments where id = pg_temp.payment_id('shoes', 'ann')$$,
  $$values ('cancelled', now())$$, 'The payment is cancelled.'
);
select is(pg_temp.calls_of('shoes'), array['ann create 10.00', 'bob create 10.00', 'ann cancel 10.00'], 'The provider is told.');
select is(api.expire_payments(), 0, 'Another sweep finds nothing.');
select is(pg_temp.tell_of('shoes', 'bob', 'failed'), 'applied failed', 'A payment that failed');
select pg_temp.let_payment_run_out('shoes', 'bob');
select is(api.expire_payments(1), 1, 'ends as well.');
select is(pg_temp.refusal('select api.expire_payments(0)'), pg_temp.error('VALIDATION_ERROR', 'p_limit: must be 1 or more'),
  'A sweep does something.');

-- A reserve.

select pg_temp.buy('shoes', 'ann', 'bob', 'cat');
select is(pg_temp.reserve_all('shoes', 'dan'), array['OUT_OF_STOCK'], 'The drop is sold out.');
select pg_temp.let_payment_run_out('shoes', 'cat');
select is(pg_temp.reserve_all('shoes', 'dan'), array[null], 'A reserve takes the unit of a due payment.');
select ok(pg_temp.purchases_on('shoes') @> array['cat cancelled'], 'It is cancelled by that.');
select ok((select nothing_due_before <= now() from inventory.drops where id = pg_temp.drop_id('shoes')), 'The bound of the search is right.');
do $$
begin
  perform api.reserve(pg_temp.drop_id('tickets'), pg_temp.user_id('ann'), p_variant_id => pg_temp.variant_id('tickets', 'S'), p_qty => 2);
  perform api.purchase(pg_temp.drop_id('tickets'), pg_temp.user_id('ann'));
end
$$;
select is(pg_temp.reserving('tickets', 'ann', 1, 'M'), pg_temp.error('LIMIT_EXCEEDED', 'You may have 2 of this drop, and you hold or have bought 2.'),
  'A pending purchase counts for the limit.');
select pg_temp.let_payment_run_out('tickets', 'ann');
select is(pg_temp.variants_of('tickets'), array['S 2 of 2 at 10.00', 'M 5 of 5 at 10.00'], 'Variants show the units of due payments.');
select is(pg_temp.reserving('tickets', 'ann', 1, 'M'), 'nothing was raised', 'One that is due does not count.');
select is(pg_temp.reserving('tickets', 'bob', 2, 'S'), 'nothing was raised', 'Its units of a variant can be had.');

-- A payment that was let go makes wait, as a hold does, so that nobody keeps the last unit by paying never.

select pg_temp.make_drop_with('waiting', '{"rehold_after_seconds": 60}');
select pg_temp.buy('waiting', 'ann', 'bob', 'cat');
select is(pg_temp.tell_of('waiting', 'cat', 'paid'), 'applied paid', 'A buyer pays.');
do $$
begin
  perform api.cancel_payment(pg_temp.payment_id('waiting', 'ann'), pg_temp.user_id('ann'));
  perform pg_temp.let_payment_run_out('waiting', 'bob');
end
$$;
select is(pg_temp.reserve_all('waiting', 'ann', 'bob', 'cat'), array['RESERVED_TOO_SOON', 'RESERVED_TOO_SOON', null],
  'Who cancelled the payment waits, and so does who did not pay; who paid does not.');
do $$ begin perform api.expire_payments(); end $$;
select is(pg_temp.reserve_all('waiting', 'bob'), array['RESERVED_TOO_SOON'], 'A sweep changes nothing of that.');
do $$
begin
  update inventory.purchases p
  set updated_at = p.updated_at - interval '60 s', payment_expires_at = p.payment_expires_at - interval '60 s'
  where p.drop_id = pg_temp.drop_id('waiting') and p.status = 'cancelled';
  update inventory.payments y
  set expires_at = y.expires_at - interval '60 s'
  where y.drop_id = pg_temp.drop_id('waiting') and y.status = 'cancelled';
end
$$;
select is(pg_temp.reserve_all('waiting', 'ann', 'bob'), array[null, null], 'The wait has an end.');

-- A basket of several drops: what one drop takes back of it does not touch the other.

create temp table basket on commit drop as
select (b.basket).id
from api.reserve_basket(pg_temp.user_id('dan'), array[
  row(pg_temp.drop_id('other'), null, 1), row(pg_temp.drop_id('less'), null, 2)]::api.basket_item[]) b;
select is((select count(*) from basket, api.purchase_basket(basket.id, pg_temp.user_id('dan'))), 2::bigint, 'A basket is bought.');
select pg_temp.let_payment_run_out('less', 'dan');
select is(pg_temp.reserve_all('other', 'cat'), array[null], 'One drop takes its unit back.');
select is((select status from inventory.payments where id = pg_temp.payment_id('less', 'dan')), 'cancelled', 'The payment is cancelled.');
select is(pg_temp.purchases_on('less'), array['dan pending'], 'The other drop was not touched,');
select is((select available_stock from api.get_drop(pg_temp.drop_id('less'))), 5, 'but shows its units.');
select is_empty('select * from pg_temp.findings()', 'The books balance.');

-- Lowering the stock.

select is(
  (select total_stock from api.update_drop(pg_temp.drop_id('less'), '{"total_stock": 1}')), 1, 'The units of a due payment may be cut.'
);
select is(pg_temp.purchases_on('less'), array['dan cancelled'], 'It is cancelled by that.');
select is(pg_temp.tell_of('less', 'dan', 'paid'), 'flagged too_late refunded', 'The whole basket is too late.');
select is_empty('select * from pg_temp.findings()', 'The books balance.');

-- The bound of the search for what is due.

update inventory.drops set nothing_due_before = now() where id = pg_temp.drop_id('shoes');
update inventory.purchases set payment_expires_at = now() - interval '1 hour'
where payment_id = (select id from inventory.payments where drop_id = pg_temp.drop_id('shoes') and user_id = pg_temp.user_id('bob') and status = 'pending');
select is((select nothing_due_before from inventory.drops where id = pg_temp.drop_id('shoes')), now() - interval '1 hour',
  'An end that is set by hand moves the search.');
select pg_temp.make_drop('early');
select pg_temp.buy('early', 'ann');
update inventory.purchases set status = 'cancelled' where drop_id = pg_temp.drop_id('early');
update inventory.drops set nothing_due_before = 'infinity', available_stock = available_stock + 1 where id = pg_temp.drop_id('early');
update inventory.purchases set status = 'pending' where drop_id = pg_temp.drop_id('early');
select is(
  (select d.nothing_due_before from inventory.drops d where d.id = pg_temp.drop_id('early')),
  (select p.payment_expires_at from inventory.purchases p where p.drop_id = pg_temp.drop_id('early')),
  'So does a purchase that is pending again by hand,');
with sold as (delete from inventory.purchases where drop_id = pg_temp.drop_id('early') returning *),
bound as (update inventory.drops set nothing_due_before = 'infinity' where id = pg_temp.drop_id('early'))
insert into inventory.purchases select * from sold;
select is(
  (select d.nothing_due_before from inventory.drops d where d.id = pg_temp.drop_id('early')),
  (select p.payment_expires_at from inventory.purchases p where p.drop_id = pg_temp.drop_id('early')),
  'and one that is inserted by hand.');
update inventory.purchases set payment_expires_at = null where drop_id = pg_temp.drop_id('early');
update inventory.drops set nothing_due_before = 'infinity' where id = pg_temp.drop_id('early');
update inventory.purchases set payment_expires_at = now() + interval '1 second' where drop_id = pg_temp.drop_id('early');
select is(
  (select d.nothing_due_before from inventory.drops d where d.id = pg_temp.drop_id('early')), now() + interval '1 second',
  'So does one that had no end.');

select * from finish();
rollback;
