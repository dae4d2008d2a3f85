-- A sale keeps its own facts: unit price and currency are copied to the hold when it is made, and from it to the purchase.
-- Nothing that happens to the drop later rewrites them.
begin;
select plan(40);

select pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan');

-- The price of the moment of the reserve.

select pg_temp.make_drop_with('shoes', '{"currency": "EUR"}', 100);
select pg_temp.hold('shoes', 'ann');
do $$ begin perform api.update_drop(pg_temp.drop_id('shoes'), '{"price": 999}'); end $$;
select results_eq(
  $$select qty, unit_price, currency, amount from api.my_reservations(pg_temp.user_id('ann'))$$, $$values (1, 100.00,
    'EUR', 100.00)$$,
  'A hold keeps the price and the currency of the moment when it was made.'
);
select results_eq(
  $$select qty, unit_price, currency, amount from api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key')$$,
  $$values (1, 100.00, 'EUR', 100.00)$$, 'The purchase has them from the hold, though the drop costs more now.'
);
select results_eq(
  $$select unit_price, amount, replayed from api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key')$$,
  'values (100.00, 100.00, true)', 'A repeat says the same.'
);
select is((select price from api.get_drop(pg_temp.drop_id('shoes'))), 999.00, 'The drop costs what the seller says.');
select is(
  (select amount from api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('bob'), p_qty => 2)), 1998.00,
  'A new hold is at the new price, for each unit.'
);

-- A hold that was made before the migration has no price, so its purchase takes the drop's.
update inventory.reservations set unit_price = null, currency = null where id = pg_temp.hold_id('shoes', 'bob');
select results_eq(
  $$select unit_price, currency, amount from api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('bob'))$$,
  $$values (999.00, 'EUR', 1998.00)$$, 'An old hold without a price is bought at the price of the drop.'
);

-- Refunds.

update inventory.purchases set updated_at = now() - interval '1 day' where drop_id = pg_temp.drop_id('shoes');
select results_eq(
  $$select status, amount, refunded_amount, refunded_at from api.refund_purchase(pg_temp.purchase_id('shoes', 'bob'))$$,
  $$values ('refunded', 1998.00, 1998.00, now())$$, 'A refund has its time and amount; the amount of the sale stays.'
);
select results_eq(
  $$select refunded_amount, refunded_at from api.my_purchases(pg_temp.user_id('ann'))$$,
  'values (null::numeric, null::timestamptz)', 'A purchase that was not refunded has neither.'
);

-- Variants have prices of their own.

select pg_temp.make_sizes('shirts', null, '[{"name": "S", "total_stock": 5}, {"name": "L", "total_stock": 5, "price": 12.5}]');
select is(pg_temp.reserving('shirts', 'ann', 3, v.variant), 'nothing was raised', format('Size %s is held.', v.variant))
from (values ('S'), ('L')) as v (variant);
do $$
begin
  perform api.update_drop(pg_temp.drop_id('shirts'), jsonb_build_object('variants', jsonb_build_array(
    jsonb_build_object('id', pg_temp.variant_id('shirts', 'S'), 'price', 1),
    jsonb_build_object('id', pg_temp.variant_id('shirts', 'L'), 'price', null))));
end
$$;
select results_eq(
  $$select unit_price, amount from api.my_reservations(pg_temp.user_id('ann')) where drop_id = pg_temp.drop_id('shirts')
    order by 1$$,
  'values (10.00, 30.00), (12.50, 37.50)', 'Each hold keeps the price of its variant, or the drop''s if it had none.'
);

-- Which hold is bought.

-- The id of a user's hold of a variant of the shirts.
create function pg_temp.held(p_user text, p_variant text) returns uuid language sql stable as $$
  select r.id from inventory.reservations r
  where r.drop_id = pg_temp.drop_id('shirts') and r.user_id = pg_temp.user_id(p_user)
    and r.variant_id = pg_temp.variant_id('shirts', p_variant)
  order by r.id desc limit 1
$$;

-- What a purchase by a user of a drop raises; it may name a hold.
create function pg_temp.buying(p_drop text, p_user text, p_reservation_id uuid default null, p_key text default null)
returns text language sql as $$
  select pg_temp.refusal(format(
    'select api.purchase(%L, %L, %L, %L)', pg_temp.drop_id(p_drop), pg_temp.user_id(p_user), p_key, p_reservation_id))
$$;

select is(pg_temp.buying('shirts', 'ann'), pg_temp.error('SEVERAL_RESERVATIONS'), 'With several holds one says which.');
select is(
  (select array_agg(o.code order by o.n) from api.purchase_batch(array[
    row(pg_temp.drop_id('shirts'), pg_temp.user_id('ann'), null, pg_temp.held('ann', 'L')),
    row(pg_temp.drop_id('shirts'), pg_temp.user_id('bob'), null, pg_temp.held('ann', 'S')),
    row(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), null, pg_temp.held('ann', 'S')),
    row(pg_temp.drop_id('shirts'), pg_temp.user_id('ann'), null, gen_random_uuid())]::api.purchase_request[]) o),
  array[null, 'RESERVATION_NOT_FOUND', 'RESERVATION_NOT_FOUND', 'RESERVATION_NOT_FOUND'],
  'The one that is named is bought. Another user''s, one of another drop and none at all are not found.'
);
select is(pg_temp.buying('shirts', 'ann', pg_temp.held('ann', 'L')), pg_temp.error('NO_ACTIVE_RESERVATION'),
  'It is bought once.');
select results_eq(
  $$select variant_id, qty, amount from api.purchase(pg_temp.drop_id('shirts'), pg_temp.user_id('ann'), 'key')$$,
  $$values (pg_temp.variant_id('shirts', 'S'), 3, 30.00)$$, 'When one hold is left it needs no name.'
);
select results_eq(
  $$select qty, replayed from api.purchase(pg_temp.drop_id('shirts'), pg_temp.user_id('ann'), 'key', pg_temp.held('ann', 'S'))$$,
  'values (3, true)', 'The key is repeated with or without the name.'
);
select is(
  pg_temp.buying('shirts', 'ann', pg_temp.held('ann', 'L'), 'key'), pg_temp.error('IDEMPOTENCY_KEY_REUSED'),
  'A key that bought one hold does not buy another.'
);

-- A late copy of a request for a hold that is gone does not buy the next one.
do $$
begin
  perform pg_temp.reserving('shirts', 'bob', 1, 'L');
  perform set_config('pgtap.late', pg_temp.held('bob', 'L')::text, true);
  perform api.cancel_reservation(pg_temp.held('bob', 'L'), pg_temp.user_id('bob'));
  perform api.update_drop(pg_temp.drop_id('shirts'), '{"price": 900}');
  perform pg_temp.reserving('shirts', 'bob', 1, 'L');
end
$$;
select is(
  pg_temp.buying('shirts', 'bob', current_setting('pgtap.late')::uuid), pg_temp.error('NO_ACTIVE_RESERVATION'),
  'A copy that was meant for a cancelled hold buys nothing.'
);
select is(
  (select status from inventory.reservations where id = pg_temp.held('bob', 'L')), 'ACTIVE',
    'The new hold at another price stays.'
);
do $$
begin
  perform pg_temp.reserving('shirts', 'bob', 1, 'S');
  update inventory.reservations set expires_at = now() where id = pg_temp.held('bob', 'L');
end
$$;
select is(
  pg_temp.buying('shirts', 'bob', pg_temp.held('bob', 'L')), pg_temp.error('RESERVATION_EXPIRED'),
  'One that has run out is said to have run out.'
);
select is(
  (select variant_id from api.purchase(pg_temp.drop_id('shirts'), pg_temp.user_id('bob'))), pg_temp.variant_id('shirts', 'S'),
  'A hold that has run out is none by the clock, so the live one needs no name.'
);
select is(pg_temp.buying('shirts', 'bob'), pg_temp.error('RESERVATION_EXPIRED'),
  'When only it is left one is told that it ran out.');
do $$
begin
  perform pg_temp.reserving('shirts', 'cat', 1, v) from unnest(array['S', 'L']) as v;
  update inventory.reservations set expires_at = now()
  where user_id = pg_temp.user_id('cat') and drop_id = pg_temp.drop_id('shirts');
end
$$;
select is(pg_temp.buying('shirts', 'cat'), pg_temp.error('RESERVATION_EXPIRED'), 'So it is when several have.');

-- Currencies.

select is(inventory.currency_decimals(v.currency), v.decimals,
  format('%s has %s decimals.', v.currency, coalesce(v.decimals::text, 'no')))
from (values ('USD', 2), ('JPY', 0), ('KWD', 3), ('XXX', null), ('usd', null), ('XAU', null)) as v (currency, decimals);
select is(
  (select price || ' ' || currency from api.create_drop(
    'currency', v.price, 1, pg_temp.user_id('seller'), p_terms => jsonb_build_object('currency', v.currency))),
  v.expected, format('A price of %s is shown as %s.', v.price, v.expected)
)
from (values (5::numeric, 'USD', '5.00 USD'), (500, 'JPY', '500 JPY'), (1.5, 'KWD', '1.500 KWD'), (500.00, 'JPY', '500 JPY'))
  as v (price, currency, expected);
select is(
  pg_temp.refusal(format('select api.create_drop(''bad'', %s, 1, %L, p_terms => %L)', v.price, pg_temp.user_id('seller'),
    jsonb_build_object('currency', v.currency))),
  pg_temp.error('VALIDATION_ERROR', v.sentence), v.sentence
)
from (values
  (1.5, 'JPY', 'price: must be less than 10000000000 with no decimals, as JPY has none'),
  (1.5555, 'KWD', 'price: must be less than 10000000000 with at most three decimals'),
  (1.555, 'EUR', 'price: must be less than 10000000000 with at most two decimals'),
  (1, 'XTS', 'currency: must be an ISO 4217 code, such as USD')
) as v (price, currency, sentence);
select pg_temp.make_drop_with('sake', '{"currency": "JPY"}', 1200);
select is(
  (select amount || ' ' || currency from api.reserve(pg_temp.drop_id('sake'), pg_temp.user_id('dan'), p_qty => 3)), '3600 JPY',
  'An amount has the decimals of its currency.'
);
select is(
  pg_temp.refusal_of_update('sake', '{"price": 0.5}'),
  pg_temp.error('VALIDATION_ERROR', 'price: must be less than 10000000000 with no decimals, as JPY has none'),
  'A new price has them, too.'
);
select is_empty('select * from pg_temp.findings()', 'No unit was lost or made up on the way.');

select * from finish();
rollback;
