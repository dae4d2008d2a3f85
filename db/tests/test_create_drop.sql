-- api.create_drop puts a drop up for sale: all its stock is available, its times decide its status, and no value is bent to fit.
-- test_constraints.sql proves which values the table accepts; here one of each kind shows that its refusal is passed on.
begin;
select plan(53);

select pg_temp.make_users('seller');

create temp table made on commit drop as
select *
from api.create_drop('Air  1 ', 129.9, 7, pg_temp.user_id('seller'), now() + interval '1 hour', now() + interval '2 hours');

select results_eq(
  $$select name, price::text, total_stock, available_stock, starts_at, ends_at, created_by, "createdAt", "updatedAt" from made$$,
  $$
    values (
      'Air  1 ', '129.90', 7, 7, now() + interval '1 hour', now() + interval '2 hours', pg_temp.user_id('seller'), now(), now())
  $$,
  'One drop comes back as asked for: its name with the blanks, its price with two decimals, all its units available, made now.'
);
select results_eq('select * from pg_temp.stored_drops()', 'table made', 'What comes back is what is stored.');

-- The status, by the times or as asked for.

set local intervalstyle = 'postgres';
select is(
  (select concat_ws(' ', d.status, 'from', coalesce((d.starts_at - now())::text, 'no time'))
    from api.create_drop('Air', 10, 1, pg_temp.user_id('seller'), now() + v.starts_in, null, v.status) d),
  v.expected, v.description
)
from (values
  (null::interval, null, 'draft from no time', 'Without a start it is a draft.'),
  ('1 microsecond', null, 'scheduled from 00:00:00.000001', 'With a start in the future it is scheduled.'),
  ('0', null, 'live from 00:00:00', 'With a start at this moment it is live.'),
  ('-1 hour', null, 'live from -01:00:00', 'With a start in the past it is live.'),
  (null, 'live', 'live from 00:00:00', 'A live drop without a start starts now.'),
  ('-1 hour', 'live', 'live from -01:00:00', 'A live drop may have started already.'),
  (null, 'draft', 'draft from no time', 'A draft may be asked for.'),
  ('1 hour', 'draft', 'draft from 01:00:00', 'A draft may have a start in the future.'),
  ('-1 hour', 'draft', 'draft from -01:00:00', 'A draft may have a start in the past and stays a draft.'),
  ('1 hour', 'scheduled', 'scheduled from 01:00:00', 'A scheduled drop may be asked for.'),
  ('-1 hour', 'scheduled', 'live from -01:00:00', 'A scheduled drop may have started already; by the clock it is live.')
) as v (starts_in, status, expected, description);

-- Values that are refused. Arguments that are not named are fine.

create function pg_temp.made_with(p_arguments text) returns text language sql as $$
  select pg_temp.refusal(format(
    'select api.create_drop(%s)',
    concat_ws(
      ', ', p_arguments,
      case when p_arguments !~ 'p_created_by' then 'p_created_by => pg_temp.user_id(''seller'')' end,
      case when p_arguments !~ 'p_name' then 'p_name => ''Air''' end,
      case when p_arguments !~ 'p_price' then 'p_price => 10' end,
      case when p_arguments !~ 'p_total_stock' then 'p_total_stock => 1' end)))
$$;

select is(pg_temp.made_with('p_created_by => ' || v.seller), pg_temp.error('AUTH_REQUIRED'), v.description)
from (values
  ('pg_temp.user_id(''nobody'')', 'A seller who does not exist is refused.'), ('null', 'A drop without a seller is refused.')
) as v (seller, description);
select is(pg_temp.made_with(v.arguments), pg_temp.error('VALIDATION_ERROR', v.expected), v.description)
from (values
  ('p_name => null', 'name: must be 1 to 200 characters, not all blank, without control characters',
    'A missing name is refused as an empty one.'),
  ('p_price => null', 'price: is required', 'A missing price is refused.'),
  ('p_price => -1', 'price: must be 0 or more', 'A negative price is refused.'),
  ('p_price => 19.999', 'price: must be less than 10000000000 with at most two decimals',
    'A price is refused rather than rounded.'),
  ('p_price => -0.001', 'price: must be less than 10000000000 with at most two decimals', 'A price is not rounded up to zero.'),
  ('p_price => 10000000000', 'price: must be less than 10000000000 with at most two decimals',
    'A price beyond what can be stored is refused.'),
  ('p_price => ''NaN''', 'price: must be less than 10000000000 with at most two decimals',
    'A price that is not a number is refused.'),
  ('p_price => ''Infinity''', 'price: must be less than 10000000000 with at most two decimals', 'An infinite price is refused.'),
  ('p_total_stock => null', 'total_stock: is required, or variants instead', 'A missing stock is refused.'),
  ('p_total_stock => 0', 'total_stock: must be 1 or more', 'A drop of no units is refused.'),
  ('p_total_stock => -1', 'total_stock: must be 1 or more', 'A negative stock is refused.'),
  ('p_status => ''ended''', 'status: a new drop is draft, scheduled or live', 'A new drop cannot have ended.'),
  ('p_status => ''cancelled''', 'status: a new drop is draft, scheduled or live', 'A new drop cannot be cancelled.'),
  ('p_status => ''sold''', 'status: must be draft, scheduled, live, ended or cancelled', 'An unknown status is refused.'),
  ('p_status => ''live'', p_starts_at => now() + interval ''1 second''',
    'starts_at: a live drop has started; leave status out to schedule it', 'A live drop cannot start in the future.'),
  ('p_status => ''scheduled''', 'starts_at: a scheduled or live drop needs one', 'A scheduled drop without a start is refused.'),
  ('p_starts_at => now(), p_ends_at => now()', 'ends_at: must be later than starts_at',
    'A drop that ends as it starts is refused.'),
  ('p_status => ''live'', p_ends_at => now() - interval ''1 second''', 'ends_at: must be later than starts_at',
    'A drop that goes live now cannot have ended.')
) as v (arguments, expected, description);
select is((select count(*) from pg_temp.stored_drops()), 12::bigint, 'A refusal makes no drop.');
select results_eq(
  format('select price, total_stock from api.create_drop(''Air'', %s, pg_temp.user_id(''seller''))', v.arguments),
  format('values (%s)', v.arguments), v.description
)
from (values
  ('0.00, 1', 'A drop may be free.'),
  ('9999999999.99, 2147483647', 'The highest price and the largest stock are accepted.'),
  ('19.900, 1', 'Zeros at the end are no decimals.')
) as v (arguments, description);

-- What an HTTP client sends as JSON is checked before it is cast.

select is(
  pg_temp.refusal(format('select api.create_drop_from_json(%L, %L)', v.fields, pg_temp.user_id('seller'))),
  'PT400 VALIDATION_ERROR: ' || v.message, v.description
)
from (values
  ('[]', 'body: must be an object', 'A list is no drop.'),
  ('{"name": "x", "price": "1", "total_stock": 1}', 'price: must be a number', 'A price is no text.'),
  ('{"name": "x", "price": 1, "total_stock": 1.5}', 'total_stock: is not a value this field can have', 'Half a unit cannot be sold.'),
  ('{"name": "x", "price": 1, "total_stock": 2147483648}', 'total_stock: is not a value this field can have', 'Nor too many.'),
  ('{"name": "x", "price": 1, "total_stock": 1, "starts_at": "yesterday"}',
    'starts_at: must be a time such as 2026-12-01T18:00:00Z', 'A word is no time,'),
  ('{"name": "x", "price": 1, "total_stock": 1, "ends_at": "infinity"}',
    'ends_at: must be a time such as 2026-12-01T18:00:00Z', 'and never is none.'),
  ('{"name": "x", "price": 1, "total_stock": 1, "ends_at": "2026-02-30"}',
    'ends_at: is not a value this field can have', 'A day that is not in the calendar is refused.'),
  ('{"name": "x", "price": 1, "total_stock": 1, "colour": "red"}', 'colour: is not a field that can be set', 'So is another field,'),
  ('{"name": "x", "price": 1, "variants": [{"name": "S", "total_stock": 2147483647}, {"name": "M", "total_stock": 1}]}',
    'variants: have more units together than a drop can have', 'and more units than a number can count.'),
  ('{"name": "x", "price": 1, "total_stock": 1, "near": 1}', 'near: must be the id of a drop', 'near is the id of a drop,'),
  ('{"name": "x", "price": 1, "total_stock": 1, "near": "shoes"}', 'near: must be the id of a drop', 'and not its name.')
) as v (fields, message, description);

-- near is another drop. A router puts the new one beside it; here nothing else comes of it.
create function pg_temp.making_near(p_near text, p_key text default null) returns text language sql as $$
  select pg_temp.refusal(format(
    'select api.create_drop_from_json(%L, %L, %L)',
    json_build_object('name', 'near ' || coalesce(p_key, p_near, 'none'), 'price', 1, 'total_stock', 1, 'near', p_near),
    pg_temp.user_id('seller'), p_key))
$$;
do $$ begin perform pg_temp.make_drop('far'); end $$;
select is(
  pg_temp.making_near(gen_random_uuid()::text), pg_temp.error('DROP_NOT_FOUND'), 'A drop is made near one that exists.');
select is(pg_temp.making_near(upper(pg_temp.drop_id('far')::text), 'upper'), 'nothing was raised', 'Its id may be written in capitals.');
select is(pg_temp.making_near(null), 'nothing was raised', 'null is near none.');
select is(pg_temp.making_near(pg_temp.drop_id('far')::text, 'key'), 'nothing was raised', 'It is made with a key,');
select is(
  (select (o.data ->> 'id')::uuid from api.create_drop_from_json(
    '{"name": "near key", "price": 1, "total_stock": 1}', pg_temp.user_id('seller'), 'key') o),
  pg_temp.drop_id('near key'), 'which a retry without near may have, because near is no property of a drop.');

select * from finish();
rollback;
