-- A drop that is created or changed is announced as it is in the end; what changes nothing that a client sees is not announced.
begin;
select plan(26);

create function pg_temp.drop_event(
  p_type text,
  p_name text,
  p_price text,
  p_total_stock integer,
  p_available_stock integer,
  p_starts_at text,
  p_ends_at text,
  p_status text
) returns text language sql as $$
  select format(
    '%s {"drop":{"id":"%s","name":"%2$s","price":%s,"total_stock":%s,"available_stock":%s,"starts_at":%s,"ends_at":%s,'
      '"status":"%s","created_by":"seller","createdAt":"now","updatedAt":"now"}}',
    p_type, p_name, p_price, p_total_stock, p_available_stock, coalesce('"' || p_starts_at || '"', 'null'),
    coalesce('"' || p_ends_at || '"', 'null'), p_status)
$$;

-- What a change of a drop announces.
create function pg_temp.announced_by_update(p_drop text, p_changes text) returns text[] language sql as $$
  select pg_temp.announced(format('select api.update_drop(%L, %L)', pg_temp.drop_id(p_drop), p_changes))
$$;

do $$ begin perform pg_temp.make_users('seller', 'ann', 'bob', 'cat'); end $$;

-- Created.

select is(
  pg_temp.announced($$
    select api.create_drop('shoes', 19.9, 5, pg_temp.user_id('seller'), '2020-01-01 00:00+00', '2999-01-01 12:30+02')
  $$),
  array[pg_temp.drop_event(
    'DROP_CREATED', 'shoes', '19.90', 5, 5, '2020-01-01T00:00:00+00:00', '2999-01-01T10:30:00+00:00', 'live')],
  'A new drop is announced with the fields that get_drop shows, its times in UTC; that it has stock goes without saying.'
);
select is(
  pg_temp.announced($$select api.create_drop('draft', 0, 1, pg_temp.user_id('seller'))$$),
  array[pg_temp.drop_event('DROP_CREATED', 'draft', '0.00', 1, 1, null, null, 'draft')],
  'So is a draft, with its times null.'
);
select is(
  pg_temp.announced($$
    do $do$
    begin
      perform api.create_drop('tickets', 5, 3, pg_temp.user_id('seller'));
      perform api.update_drop(pg_temp.drop_id('tickets'), '{"price": 7}');
      perform api.update_drop(pg_temp.drop_id('tickets'), '{"status": "live", "starts_at": "2020-01-01T00:00:00Z"}');
    end
    $do$
  $$),
  array[pg_temp.drop_event('DROP_CREATED', 'tickets', '7.00', 3, 3, '2020-01-01T00:00:00+00:00', null, 'live')],
  'A drop that is created and changed at once is announced once, as it is in the end.'
);
select is(
  pg_temp.announced($$
    select pg_temp.refusal('select api.create_drop(''none'', 1, 0, pg_temp.user_id(''seller''))')
  $$),
  '{}', 'A drop that is refused is not announced.'
);

-- Changed.

select is(
  pg_temp.announced_by_update('shoes', v.changes),
  array[pg_temp.drop_event('DROP_UPDATED', 'shoes', v.price, 5, 5, v.starts_at, v.ends_at, 'live')], v.description
)
from (values
  (1, '{"price": 20}', '20.00', '2020-01-01T00:00:00+00:00', '2999-01-01T10:30:00+00:00', 'A new price is announced.'),
  (2, '{"ends_at": null}', '20.00', '2020-01-01T00:00:00+00:00', null, 'An end that is cleared is announced.'),
  (3, '{"starts_at": "2021-01-01T01:00:00.5+01:00"}', '20.00', '2021-01-01T00:00:00.5+00:00', null, 'A new start is announced.'),
  (4, '{"price": 10, "ends_at": "2999-01-01T00:00:00Z"}', '10.00', '2021-01-01T00:00:00.5+00:00', '2999-01-01T00:00:00+00:00',
    'Two changes at once are announced at once.')
) as v (n, changes, price, starts_at, ends_at, description)
order by v.n;
select is(
  pg_temp.announced_by_update('draft', '{"name": "renamed"}'),
  array[pg_temp.drop_event('DROP_UPDATED', 'renamed', '0.00', 1, 1, null, null, 'draft')], 'A new name is announced.'
);
select is(
  pg_temp.announced_by_update('renamed', '{"status": "scheduled", "starts_at": "2999-01-01T00:00:00Z"}'),
  array[pg_temp.drop_event('DROP_UPDATED', 'renamed', '0.00', 1, 1, '2999-01-01T00:00:00+00:00', null, 'scheduled')],
  'A new status is announced.'
);
select is(
  pg_temp.announced_by_update('tickets', '{"total_stock": 8}'),
  array[
    pg_temp.drop_event('DROP_UPDATED', 'tickets', '7.00', 8, 8, '2020-01-01T00:00:00+00:00', null, 'live'),
    'STOCK_UPDATED {"dropId":"tickets","availableStock":8}'
  ],
  'A restock is announced as a change of the drop and of its stock.'
);
select is(
  pg_temp.announced($$
    do $do$
    begin
      perform api.update_drop(pg_temp.drop_id('tickets'), '{"price": 1}');
      perform api.update_drop(pg_temp.drop_id('tickets'), '{"total_stock": 2}');
      perform api.update_drop(pg_temp.drop_id('tickets'), '{"price": 2, "total_stock": 3}');
    end
    $do$
  $$),
  array[
    pg_temp.drop_event('DROP_UPDATED', 'tickets', '2.00', 3, 3, '2020-01-01T00:00:00+00:00', null, 'live'),
    'STOCK_UPDATED {"dropId":"tickets","availableStock":3}'
  ],
  'Three changes in one transaction are announced once, as the drop is in the end.'
);

select is(pg_temp.announced_by_update('tickets', v.changes), '{}', v.description)
from (values
  ('{"name": "tickets"}', 'The name it has is no change.'),
  ('{"price": 2.00, "total_stock": 3, "status": "live", "starts_at": "2020-01-01T00:00:00Z", "ends_at": null}',
    'Everything as it is is no change.')
) as v (changes, description);
select is(
  pg_temp.announced(format(
    'select pg_temp.refusal(%L)', format('select api.update_drop(%L, %L)', pg_temp.drop_id('tickets'), v.changes))),
  '{}', v.description
)
from (values
  ('{"price": -1}', 'A value that is refused is not announced.'),
  ('{"name": "other", "status": "draft"}', 'A move that is refused is not announced.')
) as v (changes, description);
select is(
  pg_temp.announced(format('update inventory.drops set %s where id = %L', v.changes, pg_temp.drop_id('tickets'))), v.expected,
  v.description
)
from (values
  ('updated_at = now() - interval ''1 second''', '{}'::text[], 'A drop that was only touched is not announced.'),
  ('updated_at = updated_at', '{}', 'Nor is one that was not even touched.'),
  ('updated_at = now()', '{}', 'Nor is one that was touched again.')
) as v (changes, expected, description);
select is(
  pg_temp.announced($$update inventory.drops set available_stock = 1 where id = pg_temp.drop_id('tickets')$$),
  array['STOCK_UPDATED {"dropId":"tickets","availableStock":1}'], 'Stock that somebody moves by hand is announced.'
);
select is(
  pg_temp.announced($$
    do $do$
    begin
      update inventory.drops set available_stock = 3 where id = pg_temp.drop_id('tickets');
      update inventory.drops set updated_at = now() where id = pg_temp.drop_id('tickets');
    end
    $do$
  $$),
  array['STOCK_UPDATED {"dropId":"tickets","availableStock":3}'], 'What comes after it in the transaction takes nothing back.'
);

-- Changed together with reservations.

select is(
  pg_temp.announced_by_update('renamed', '{"status": "cancelled"}'),
  array[pg_temp.drop_event('DROP_UPDATED', 'renamed', '0.00', 1, 1, '2999-01-01T00:00:00+00:00', null, 'cancelled')],
  'A drop that is cancelled with nothing held has the same stock.'
);
do $$
begin
  perform api.reserve_batch(pg_temp.drop_id('tickets'), pg_temp.user_ids('ann', 'bob'), null);
  perform api.reserve_batch(pg_temp.drop_id('shoes'), pg_temp.user_ids('ann', 'bob', 'cat'), null);
  perform api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('bob'));
  update inventory.reservations set expires_at = now()
  where drop_id = pg_temp.drop_id('tickets') and user_id = pg_temp.user_id('bob');
end
$$;
select is(
  pg_temp.announced_by_update('tickets', '{"total_stock": 1}'),
  array[
    pg_temp.drop_event('DROP_UPDATED', 'tickets', '2.00', 1, 0, '2020-01-01T00:00:00+00:00', null, 'live'),
    'RESERVATION_EXPIRED {"dropId":"tickets","reservationId":"hold of bob"}',
    'STOCK_UPDATED {"dropId":"tickets","availableStock":0}'
  ],
  'Fewer units than are held: the hold that ran out is announced, after the drop and before the stock.'
);
select is(
  pg_temp.announced_by_update('shoes', '{"status": "cancelled"}'),
  array[
    pg_temp.drop_event('DROP_UPDATED', 'shoes', '10.00', 5, 4, '2021-01-01T00:00:00.5+00:00', '2999-01-01T00:00:00+00:00',
      'cancelled'),
    'STOCK_UPDATED {"dropId":"shoes","availableStock":4}'
  ],
  'A drop that is cancelled gives its holds back; they are cancelled, too, and did not expire.'
);

-- Moved on by the clock.

do $$
begin
  perform api.create_drop('early', 1, 1, pg_temp.user_id('seller'), '2999-01-01 00:00+00');
  perform api.create_drop('late', 1, 2, pg_temp.user_id('seller'), '2020-01-01 00:00+00', '2999-01-01 00:00+00');
  perform api.create_drop('quiet', 1, 2, pg_temp.user_id('seller'), '2020-01-01 00:00+00');
  update inventory.drops set starts_at = '2022-01-01 00:00+00' where id = pg_temp.drop_id('early');
  update inventory.drops set ends_at = '2022-01-01 00:00+00' where id = pg_temp.drop_id('late');
end
$$;
create temp table advanced on commit drop as
select e.event from unnest(pg_temp.announced('select api.advance_drops()')) as e (event);
select bag_eq(
  'table advanced',
  array[
    pg_temp.drop_event('DROP_UPDATED', 'early', '1.00', 1, 1, '2022-01-01T00:00:00+00:00', null, 'live'),
    pg_temp.drop_event('DROP_UPDATED', 'late', '1.00', 2, 2, '2020-01-01T00:00:00+00:00', '2022-01-01T00:00:00+00:00', 'ended')
  ],
  'Drops that the clock starts and ends are announced, others are not.'
);
select is(pg_temp.announced('select api.advance_drops()'), '{}', 'When the clock moves nothing, nothing is announced.');

select * from finish();
rollback;
