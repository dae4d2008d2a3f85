-- Baskets: items of several drops and variants are held, bought and given back together, or not at all.
begin;
select * from no_plan();

select pg_temp.make_users('seller', 'ann', 'bob', 'cat');
select pg_temp.make_drops('shoes', 'bags', 'hats', 'few');
do $$
begin
  perform api.update_drop(pg_temp.drop_id('few'), '{"total_stock": 2, "price": 7.25}');
  perform api.update_drop(pg_temp.drop_id('hats'), '{"hold_seconds": 20}');
  perform api.create_drop(
    'sizes', 5, null, pg_temp.user_id('seller'), now(),
    p_variants => '[{"name": "S", "total_stock": 3}, {"name": "M", "total_stock": 3, "price": 6.5}]',
    p_terms => '{"limit_per_user": 3, "currency": "EUR"}');
end
$$;

create function pg_temp.variant_id(p_name text) returns uuid language sql stable as $$
  select v.id from inventory.variants v where v.drop_id = pg_temp.drop_id('sizes') and v.name = p_name
$$;

-- The items of a text such as "shoes, few 2, sizes M 1".
create function pg_temp.items(p_text text) returns api.basket_item[] language sql stable as $$
  select array_agg(
    row(
      pg_temp.drop_id(word[1]), case when word[1] = 'sizes' then pg_temp.variant_id(word[2]) end,
      case when word[1] = 'sizes' then word[3] else word[2] end)::api.basket_item
    order by i.n)
  from string_to_table(p_text, ', ') with ordinality as i (item, n)
  cross join lateral string_to_array(i.item, ' ') as word
$$;

create function pg_temp.refused_items(p_user text, p_items text) returns text[] language sql as $$
  select array_agg(format('%s %s: %s', index, code, message) order by index)
  from api.reserve_basket(pg_temp.user_id(p_user), pg_temp.items(p_items))
  where basket is null
$$;

create function pg_temp.stocks() returns text language sql stable as $$
  select string_agg(d.name || ' ' || d.available_stock, ', ' order by d.name)
  from inventory.drops d where d.created_by = pg_temp.user_id('seller')
$$;

-- Hold all.

create temp table made on commit drop as
select * from api.reserve_basket(pg_temp.user_id('ann'), pg_temp.items('sizes M 2, few 2, hats, sizes S'), 'key', 90);

select results_eq(
  'select index, code, message, replayed from made', 'values (null::integer, null::text, null::text, false)',
  'If all items are held, the answer is one row.'
);
select results_eq(
  $$
    select d.name::text, v.name, r.qty, r.unit_price, r.amount, r.status, r.expires_at, r.basket_id = (select (basket).id from made)
    from made
    cross join lateral unnest((basket).reservations) with ordinality r
    join inventory.drops d on d.id = r.drop_id
    left join inventory.variants v on v.id = r.variant_id
    order by r.ordinality
  $$,
  $$
    values
      ('sizes', 'M', 2, 6.5, 13.0, 'ACTIVE', now() + interval '90 s', true),
      ('few', null, 2, 7.25, 14.5, 'ACTIVE', now() + interval '90 s', true),
      ('hats', null, 1, 10, 10, 'ACTIVE', now() + interval '20 s', true),
      ('sizes', 'S', 1, 5, 5, 'ACTIVE', now() + interval '90 s', true)
  $$,
  'The reservations have the order of the items, and know their basket.'
);
select results_eq(
  'select (basket).user_id, (basket).amounts, (basket).expires_at, (basket)."createdAt" from made',
  $$values (pg_temp.user_id('ann'), '{"USD": 24.50, "EUR": 18.00}'::jsonb, now() + interval '20 s', now())$$,
  'A basket has the amount in each currency, and ends when the first hold does.'
);
select is(pg_temp.stocks(), 'bags 10, few 0, hats 9, shoes 10, sizes 3', 'The units are taken.');
select results_eq(
  $$select to_jsonb(b) from api.get_basket((select (basket).id from made), pg_temp.user_id('ann')) b$$,
  'select to_jsonb(basket) from made', 'The basket can be read.'
);
select is(current_setting('lock_timeout'), '0', 'The lock_timeout of the caller is in force again.');

-- Hold none.

select is(
  pg_temp.refused_items('bob', 'shoes, few, bags 11, sizes M 2, hats'),
  array[
    '1 OUT_OF_STOCK: Every unit of this drop is held or sold. A unit comes back when a hold expires or is cancelled.',
    '2 OUT_OF_STOCK: Only 10 left of what you asked for.',
    '3 OUT_OF_STOCK: Only 1 left of what you asked for.'
  ],
  'Each refused item is named, with the reason.'
);
select is(
  pg_temp.refused_items('cat', 'shoes, sizes S 2, sizes M 2'),
  array['2 LIMIT_EXCEEDED: You may have 3 of this drop, and you hold or have bought 2.'],
  'An item that could be held is not among them, but counts for the limit.'
);
select is(
  pg_temp.refused_items('ann', 'hats, sizes M, shoes'),
  array[
    '0 ALREADY_RESERVED: You have reserved this already. Purchase or cancel that reservation first.',
    '1 ALREADY_RESERVED: You have reserved this already. Purchase or cancel that reservation first.'
  ],
  'What is held already cannot be in another basket.'
);
select results_eq(
  $$
    select index, code from api.reserve_basket(pg_temp.user_id('bob'), array[
      row(pg_temp.drop_id('sizes'), null, 1), row(pg_temp.drop_id('shoes'), pg_temp.variant_id('S'), 1),
      row(gen_random_uuid(), null, 1), row(null, null, null), row(pg_temp.drop_id('bags'), null, 2147483647)
    ]::api.basket_item[])
  $$,
  $$
    values
      (0, 'VARIANT_NOT_FOUND'), (1, 'VARIANT_NOT_FOUND'), (2, 'DROP_NOT_FOUND'), (3, 'DROP_NOT_FOUND'), (4, 'OUT_OF_STOCK')
  $$,
  'Neither can what does not exist, or more than there is.'
);
select is(pg_temp.stocks(), 'bags 10, few 0, hats 9, shoes 10, sizes 3', 'Not one unit is taken for a basket that is refused.');
select is_empty(
  $$select from inventory.baskets where user_id = any (pg_temp.user_ids('bob', 'cat'))$$,
  'A basket that is refused does not exist.'
);

do $$
begin
  perform api.update_drop(pg_temp.drop_id('sizes'), '{"limit_per_user": 1}');
end
$$;
select is(
  pg_temp.refused_items('bob', 'sizes S, sizes M'),
  array['1 LIMIT_EXCEEDED: You may have 1 of this drop, and you hold or have bought 1.'],
  'The limit counts the items of the basket together.'
);

-- Bad requests.

select is(
  pg_temp.refusal(format('select api.reserve_basket(%L, %s)', pg_temp.user_id(v.name), v.rest)), v.expected, v.description
)
from (values
  ('bob', 'null', pg_temp.error('VALIDATION_ERROR', 'items: must be 1 to 20 items'), 'null is no list of items.'),
  ('bob', '''{}''', pg_temp.error('VALIDATION_ERROR', 'items: must be 1 to 20 items'), 'A basket is not empty.'),
  ('bob', '(select array_agg(row(gen_random_uuid(), null, 1)::api.basket_item) from generate_series(1, 21))',
    pg_temp.error('VALIDATION_ERROR', 'items: must be 1 to 20 items'), 'It has 20 items at most.'),
  ('bob', 'pg_temp.items(''shoes, bags, shoes 2'')',
    pg_temp.error('VALIDATION_ERROR', 'items: two items are the same drop and variant; give one with their qty together'),
    'It has no item twice.'),
  ('bob', 'pg_temp.items(''bags, shoes 0'')', pg_temp.error('VALIDATION_ERROR', 'qty: must be 1 or more'),
    'No item is of 0 units.'),
  ('bob', 'pg_temp.items(''bags''), ''a b''',
    pg_temp.error('VALIDATION_ERROR', 'Idempotency-Key: must be 1 to 255 visible ASCII characters'), 'A key has a form.'),
  ('bob', 'pg_temp.items(''bags''), null, 0', pg_temp.error('VALIDATION_ERROR', 'p_ttl_seconds: must be between 1 and 86400'),
    'A hold lasts a second or more.'),
  ('nobody', 'pg_temp.items(''bags'')', pg_temp.error('AUTH_REQUIRED'), 'An unknown user is refused.')
) as v (name, rest, expected, description);

-- The same key.

select results_eq(
  $$
    select replayed, (basket).id
    from api.reserve_basket(pg_temp.user_id('ann'), pg_temp.items('sizes M 2, few 2, hats 1, sizes S'), 'key')
  $$,
  'select true, (basket).id from made', 'The same request with the same key returns the first basket.'
);
select is(
  pg_temp.refusal(format(
    'select api.reserve_basket(%L, pg_temp.items(%L), ''key'')', pg_temp.user_id('ann'), v.items)),
  pg_temp.error('IDEMPOTENCY_KEY_REUSED'), 'Another request with the same key is refused: ' || v.items
)
from (values ('sizes M 2, few 2, hats'), ('sizes M 2, few 1, hats, sizes S'), ('shoes')) as v (items);
select is(
  (select replayed from api.reserve_basket(pg_temp.user_id('bob'), pg_temp.items('shoes'), 'key')), false,
  'A key belongs to a user.'
);

-- Buy.

create function pg_temp.basket_of(p_user text) returns uuid language sql stable as $$
  select b.id from inventory.baskets b where b.user_id = pg_temp.user_id(p_user) order by b.id desc limit 1
$$;
create function pg_temp.refusal_of(p_function text, p_user text, p_basket uuid default null) returns text language sql as $$
  select pg_temp.refusal(format(
    'select api.%s(%L, %L)', p_function, coalesce(p_basket, pg_temp.basket_of(p_user)), pg_temp.user_id(p_user)))
$$;

select is(pg_temp.refusal_of(v.function, v.name, pg_temp.basket_of('ann')), pg_temp.error(v.code), v.description)
from unnest(array['purchase_basket', 'cancel_basket', 'get_basket']) as f (function)
cross join lateral (values
  (f.function, 'bob', 'BASKET_NOT_FOUND', 'Another user''s basket is not found.'),
  (f.function, 'nobody', 'AUTH_REQUIRED', 'An unknown user is refused.')
) as v (function, name, code, description);

create temp table bought on commit drop as
select * from api.purchase_basket(pg_temp.basket_of('ann'), pg_temp.user_id('ann'));
select results_eq(
  $$
    select
      (select d.name::text from inventory.drops d where d.id = (b.purchase).drop_id), (b.purchase).qty, (b.purchase).amount,
      (b.purchase).currency, (b.purchase).status, b.replayed
    from bought b
  $$,
  $$
    values
      ('sizes', 2, 13.0, 'EUR', 'paid', false), ('few', 2, 14.5, 'USD', 'paid', false), ('hats', 1, 10, 'USD', 'paid', false),
      ('sizes', 1, 5, 'EUR', 'paid', false)
  $$,
  'All holds of a basket are bought, in the order of its items.'
);
select results_eq(
  $$select (purchase).id, replayed from api.purchase_basket(pg_temp.basket_of('ann'), pg_temp.user_id('ann'))$$,
  'select (purchase).id, true from bought', 'A second time the answer is the same purchases.'
);
select matches(
  pg_temp.refusal_of('cancel_basket', 'ann'),
  '^PT409 BASKET_NOT_ACTIVE: Item [0-3] was bought already, so nothing of this basket is given back.$',
  'What was bought cannot be given back.'
);
select results_eq(
  $$
    select array(select distinct r.status from unnest((basket).reservations) r), replayed
    from api.reserve_basket(pg_temp.user_id('ann'), pg_temp.items('sizes M 2, few 2, hats, sizes S'), 'key')
  $$,
  $$values (array['CONSUMED'], true)$$, 'A repeated key shows the basket as it is now.'
);

-- Buy none.

select lives_ok(
  $$select api.reserve_basket(pg_temp.user_id('cat'), pg_temp.items('shoes, bags, hats'))$$, 'Cat holds three things.'
);
select pg_temp.let_run_out('bags', 'cat');
select is(
  pg_temp.refusal_of('purchase_basket', 'cat'),
  pg_temp.error('RESERVATION_EXPIRED', 'The hold of item 1 ran out, so nothing of this basket is bought.'),
  'If one hold ran out, nothing is bought.'
);
do $$ begin perform api.expire_reservations(); end $$;
select is(
  pg_temp.refusal_of('purchase_basket', 'cat'),
  pg_temp.error('RESERVATION_EXPIRED', 'The hold of item 1 ran out, so nothing of this basket is bought.'),
  'It is the same after a sweep.'
);
do $$ begin perform api.cancel_reservation(pg_temp.hold_id('shoes', 'cat'), pg_temp.user_id('cat')); end $$;
select is(
  pg_temp.refusal_of('purchase_basket', 'cat'),
  pg_temp.error('RESERVATION_EXPIRED', 'The hold of item 1 ran out, so nothing of this basket is bought.'),
  'That a hold ran out goes before that one was cancelled.'
);
select is(
  (select array_agg(r.status order by r.n) from api.get_basket(pg_temp.basket_of('cat'), pg_temp.user_id('cat')) b
    cross join lateral unnest(b.reservations) with ordinality as r
      (id, drop_id, variant_id, user_id, basket_id, qty, unit_price, currency, amount, status, expires_at, extended_at, c, u, n)),
  array['CANCELLED', 'EXPIRED', 'ACTIVE'], 'Nothing was bought.'
);

-- Give back.

select is(
  (select array_agg(distinct r.status) from api.cancel_basket(pg_temp.basket_of('cat'), pg_temp.user_id('cat')) b
    cross join lateral unnest(b.reservations) r where r.drop_id = pg_temp.drop_id('hats')),
  array['CANCELLED'], 'What is still held is given back, although other holds ran out or were cancelled.'
);
select lives_ok(
  $$select api.cancel_basket(pg_temp.basket_of('cat'), pg_temp.user_id('cat'))$$, 'A second time that is no error.'
);
select is(pg_temp.stocks(), 'bags 10, few 0, hats 9, shoes 9, sizes 3', 'Every unit came back once.');

select lives_ok($$select api.reserve_basket(pg_temp.user_id('cat'), pg_temp.items('shoes, bags'))$$, 'Cat holds two things.');
do $$ begin perform api.purchase(pg_temp.drop_id('bags'), pg_temp.user_id('cat')); end $$;
select is(
  pg_temp.refusal_of('purchase_basket', 'cat'),
  pg_temp.error('BASKET_NOT_ACTIVE', 'Item 1 was bought already, so nothing of this basket is bought now.'),
  'A basket of which a part was bought is not bought.'
);
select is(
  pg_temp.refusal_of('cancel_basket', 'cat'),
  pg_temp.error('BASKET_NOT_ACTIVE', 'Item 1 was bought already, so nothing of this basket is given back.'),
  'Nor is it given back.'
);
do $$ begin perform api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('cat')); end $$;
select is(
  (select bool_and(replayed) from api.purchase_basket(pg_temp.basket_of('cat'), pg_temp.user_id('cat'))), true,
  'A basket whose holds were bought one by one is bought.'
);

-- A hold that is due makes room for a basket.

do $$
begin
  perform api.update_drop(pg_temp.drop_id('bags'), '{"total_stock": 2}');
  perform api.reserve_basket(pg_temp.user_id('bob'), pg_temp.items('bags'));
  perform pg_temp.let_run_out('bags', 'bob');
end
$$;
select is(pg_temp.refused_items('cat', 'bags, hats'), null, 'A hold that ran out makes room at once.');
select is_empty('select * from pg_temp.findings()', 'No unit was lost or made up on the way.');
do $$ begin set constraints all immediate; end $$;
update inventory.reservations set basket_id = null where id = pg_temp.hold_id('hats', 'cat');
select results_eq(
  'select expected, found from api.audit()', 'values (2::bigint, 1::bigint)', 'The audit misses a hold that a basket has lost.'
);

select * from finish();
rollback;
