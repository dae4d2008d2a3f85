-- api.create_drop puts a drop up for sale: all its stock is available, its times decide its status, and no value is bent to fit.
begin;
select plan(51);

do $$ begin perform api.ensure_user(pg_temp.user_id('seller')); end $$;

create temp table made on commit drop as
select *
from api.create_drop('Air  1 ', 129.9, 7, pg_temp.user_id('seller'), now() + interval '1 hour', now() + interval '2 hours');

select is(
  (select array_agg(key) from made, json_object_keys(to_json(made)) as key),
  array[
    'id', 'name', 'price', 'total_stock', 'available_stock', 'starts_at', 'ends_at', 'status', 'created_by', 'createdAt',
  'updatedAt'
  ],
  'The row has the names of the wire.'
);
select is((select count(*) from made), 1::bigint, 'One row comes back.');
select is((select name from made), 'Air  1 ', 'The name is kept as given, blanks included.');
select is((select price::text from made), '129.90', 'The price has its two decimals.');
select is((select total_stock from made), 7, 'The drop has as many units as asked for.');
select is((select available_stock from made), 7, 'All of them are available.');
select is((select starts_at from made), now() + interval '1 hour', 'It starts when asked.');
select is((select ends_at from made), now() + interval '2 hours', 'It ends when asked.');
select is((select created_by from made), pg_temp.user_id('seller'), 'It belongs to its seller.');
select is((select array["createdAt", "updatedAt"] from made), array[now(), now()], 'It is made now.');
select results_eq(
  $$
    select d.id, d.name, d.price, d.total_stock, d.available_stock, d.starts_at, d.ends_at, d.status, d.created_by, d.created_at,
    d.updated_at
    from inventory.drops d
    where d.id = (select id from made)
  $$,
  $$select * from made$$,
  'What comes back is what is stored.'
);

-- The status, by the times or as asked for.

set local intervalstyle = 'postgres';
create function pg_temp.made_with(p_starts_at timestamptz, p_status text) returns text language sql as $$
  select concat_ws(' ', d.status, 'from', coalesce((d.starts_at - now())::text, 'no time'))
  from api.create_drop('Air', 10, 1, pg_temp.user_id('seller'), p_starts_at, null, p_status) d
$$;

select is(pg_temp.made_with(now() + v.starts_in, v.status), v.expected, v.description)
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
  ('-1 hour', 'scheduled', 'scheduled from -01:00:00', 'A scheduled drop may have started already.')
) as v (starts_in, status, expected, description);

-- Errors.

select throws_ok(
  $$select api.create_drop('Air', 10, 1, pg_temp.user_id('nobody'))$$, 'PT401', 'AUTH_REQUIRED',
  'A seller who does not exist is refused.'
);
select throws_ok($$select api.create_drop('Air', 10, 1, null)$$, 'PT401', 'AUTH_REQUIRED', 'A drop without a seller is refused.');
select throws_ok(
  $$select api.create_drop('', 10, 1, pg_temp.user_id('seller'))$$, 'PT400', 'VALIDATION_ERROR',
  'A drop without a name is refused.'
);

create function pg_temp.refusal_with(p_arguments text) returns text language sql as $$
  select pg_temp.refusal(format(
    'select api.create_drop(%s)',
    concat_ws(
      ', ', p_arguments, 'p_created_by => pg_temp.user_id(''seller'')',
      case when p_arguments !~ 'p_name' then 'p_name => ''Air''' end,
      case when p_arguments !~ 'p_price' then 'p_price => 10' end,
      case when p_arguments !~ 'p_total_stock' then 'p_total_stock => 1' end)))
$$;

select is(pg_temp.refusal_with('p_price => 10'), 'nothing was raised', 'What follows is refused for the one value named.');
select is(pg_temp.refusal_with(v.arguments), 'PT400 VALIDATION_ERROR: ' || v.expected, v.description)
from (values
  ('p_name => null', 'name: must be 1 to 200 characters, not all blank, without control characters',
    'A missing name is refused.'),
  ('p_name => ''''', 'name: must be 1 to 200 characters, not all blank, without control characters', 'An empty name is refused.'),
  ('p_name => ''  ''', 'name: must be 1 to 200 characters, not all blank, without control characters',
    'A blank name is refused.'),
  ('p_name => repeat(''x'', 201)', 'name: must be 1 to 200 characters, not all blank, without control characters',
    'A name of 201 characters is refused.'),
  ('p_name => E''a\nb''', 'name: must be 1 to 200 characters, not all blank, without control characters',
    'A name with a control character is refused.'),
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
  ('p_total_stock => null', 'total_stock: is required', 'A missing stock is refused.'),
  ('p_total_stock => 0', 'total_stock: must be 1 or more', 'A drop of no units is refused.'),
  ('p_total_stock => -1', 'total_stock: must be 1 or more', 'A negative stock is refused.'),
  ('p_status => ''ended''', 'status: a new drop is draft, scheduled or live', 'A new drop cannot have ended.'),
  ('p_status => ''cancelled''', 'status: a new drop is draft, scheduled or live', 'A new drop cannot be cancelled.'),
  ('p_status => ''sold''', 'status: must be draft, scheduled, live, ended or cancelled', 'A status that is none is refused.'),
  ('p_status => ''live'', p_starts_at => now() + interval ''1 second''',
    'starts_at: a live drop has started; leave status out to schedule it', 'A live drop cannot start in the future.'),
  ('p_status => ''scheduled''', 'starts_at: a scheduled or live drop needs one', 'A scheduled drop without a start is refused.'),
  ('p_starts_at => now(), p_ends_at => now()', 'ends_at: must be later than starts_at',
    'A drop that ends as it starts is refused.'),
  ('p_status => ''live'', p_ends_at => now() - interval ''1 second''', 'ends_at: must be later than starts_at',
    'A drop that goes live now cannot have ended.')
) as v (arguments, expected, description);

select lives_ok(
  $$select api.create_drop('Air', 0, 1, pg_temp.user_id('seller'))$$, 'A drop may be free.'
);
select is(
  (select price from api.create_drop('Air', 9999999999.99, 2147483647, pg_temp.user_id('seller'))), 9999999999.99,
  'The highest price and the largest stock are accepted.'
);
select is(
  (select count(*) from inventory.drops where created_by = pg_temp.user_id('seller')), 15::bigint, 'A refusal makes no drop.'
);

select * from finish();
rollback;
