-- A drop that is created or changed is announced as it is in the end; what changes nothing that a client sees is not announced.
begin;
select plan(27);

-- The event of a drop. A time is in UTC; a year stands for its first moment.
create function pg_temp.drop_event(
  p_type text, p_name text, p_price text, p_total_stock integer, p_available_stock integer, p_starts_at text, p_ends_at text,
  p_status text
) returns text language sql as $$
  select format(
    '%s {"drop":{"id":"%s","name":"%2$s","price":%s,"currency":"USD","total_stock":%s,"available_stock":%s,"variants":[],'
      '"starts_at":%s,"ends_at":%s,"status":"%s","paused_at":null,"limit_per_user":null,"hold_seconds":null,'
      '"rehold_after_seconds":0,"extension_seconds":null,"revision":n,"created_by":"seller","createdAt":"now","updatedAt":"now",'
      '"image_url":null}}',
    p_type, p_name, p_price, p_total_stock, p_available_stock,
    coalesce(to_json(regexp_replace(p_starts_at, '^(....)$', '\1-01-01T00:00:00') || '+00:00')::text, 'null'),
    coalesce(to_json(regexp_replace(p_ends_at, '^(....)$', '\1-01-01T00:00:00') || '+00:00')::text, 'null'),
    p_status)
$$;

-- Drops of the seller's, and changes of them.
create function pg_temp.create_drop(p_name text, p_price numeric, p_stock integer, p_starts_at text, p_ends_at text)
returns void language sql as $$
  select api.create_drop(p_name, p_price, p_stock, pg_temp.user_id('seller'), p_starts_at::timestamptz, p_ends_at::timestamptz)
$$;
create function pg_temp.update_drop(p_name text, p_changes jsonb) returns void language sql as $$
  select api.update_drop(pg_temp.drop_id(p_name), p_changes)
$$;

select pg_temp.make_users('seller', 'ann', 'bob', 'cat');

-- Each statement is a transaction of its own.
select is(pg_temp.announced(v.statement), v.events, v.description)
from (values
  -- Created.
  (1, $$select pg_temp.create_drop('shoes', 19.9, 5, '2020-01-01 00:00+00', '2999-01-01 12:30+02')$$,
    array[pg_temp.drop_event('DROP_CREATED', 'shoes', '19.90', 5, 5, '2020', '2999-01-01T10:30:00', 'live')],
    'A new drop is announced with the fields that get_drop shows, its times in UTC; that it has stock goes without saying.'),
  (2, $$select pg_temp.create_drop('draft', 0, 1, null, null)$$,
    '{}', 'A draft is not.'),
  (3, $$
      select pg_temp.create_drop('tickets', 5, 3, null, null);
      select pg_temp.update_drop('tickets', '{"price": 7}');
      select pg_temp.update_drop('tickets', '{"status": "live", "starts_at": "2020-01-01T00:00:00Z"}')
    $$,
    array[pg_temp.drop_event('DROP_CREATED', 'tickets', '7.00', 3, 3, '2020', null, 'live')],
    'A drop that is created and changed at once is announced once, as it is in the end.'),
  (4, $$select pg_temp.refusal('select pg_temp.create_drop(''none'', 1, 0, null, null)')$$, '{}',
    'A drop that is refused is not announced.'),
  -- Changed.
  (5, $$select pg_temp.update_drop('shoes', '{"price": 20}')$$,
    array[pg_temp.drop_event('DROP_UPDATED', 'shoes', '20.00', 5, 5, '2020', '2999-01-01T10:30:00', 'live')],
    'A new price is announced.'),
  (6, $$select pg_temp.update_drop('shoes', '{"ends_at": null}')$$,
    array[pg_temp.drop_event('DROP_UPDATED', 'shoes', '20.00', 5, 5, '2020', null, 'live')], 'An end that is gone is announced.'),
  (7, $$select pg_temp.update_drop('shoes', '{"starts_at": "2021-01-01T01:00:00.5+01:00"}')$$,
    array[pg_temp.drop_event('DROP_UPDATED', 'shoes', '20.00', 5, 5, '2021-01-01T00:00:00.5', null, 'live')],
    'A new start is announced.'),
  (8, $$select pg_temp.update_drop('shoes', '{"price": 10, "ends_at": "2999-01-01T00:00:00Z"}')$$,
    array[pg_temp.drop_event('DROP_UPDATED', 'shoes', '10.00', 5, 5, '2021-01-01T00:00:00.5', '2999', 'live')],
    'Two changes at once are announced at once.'),
  (9, $$select pg_temp.update_drop('draft', '{"name": "renamed"}')$$,
    '{}', 'Nor is a change of it.'),
  (10, $$select pg_temp.update_drop('renamed', '{"status": "scheduled", "starts_at": "2999-01-01T00:00:00Z"}')$$,
    array[pg_temp.drop_event('DROP_CREATED', 'renamed', '0.00', 1, 1, '2999', null, 'scheduled')],
    'A draft that is scheduled is announced as created.'),
  (11, $$select pg_temp.update_drop('tickets', '{"total_stock": 8}')$$,
    array[pg_temp.drop_event('DROP_UPDATED', 'tickets', '7.00', 8, 8, '2020', null, 'live'), pg_temp.stock_updated('tickets', 8)],
    'A restock is announced as a change of the drop and of its stock.'),
  (12, $$
      select pg_temp.update_drop('tickets', '{"price": 1}');
      select pg_temp.update_drop('tickets', '{"total_stock": 2}');
      select pg_temp.update_drop('tickets', '{"price": 2, "total_stock": 3}')
    $$,
    array[pg_temp.drop_event('DROP_UPDATED', 'tickets', '2.00', 3, 3, '2020', null, 'live'), pg_temp.stock_updated('tickets', 3)],
    'Three changes in one transaction are announced once, as the drop is in the end.'),
  (13, $$select pg_temp.update_drop('tickets', '{"name": "tickets"}')$$, '{}', 'The name it has is no change.'),
  (14, $$
      select pg_temp.update_drop('tickets',
        '{"price": 2.00, "total_stock": 3, "status": "live", "starts_at": "2020-01-01T00:00:00Z", "ends_at": null}')
    $$, '{}', 'All values as they are is no change.'),
  (15, $$select pg_temp.refusal('select pg_temp.update_drop(''tickets'', ''{"price": -1}'')')$$, '{}',
    'A value that is refused is not announced.'),
  (16, $$select pg_temp.refusal('select pg_temp.update_drop(''tickets'', ''{"name": "other", "status": "draft"}'')')$$, '{}',
    'A move that is refused is not announced.'),
  -- By hand.
  (17, $$update inventory.drops set updated_at = now() - interval '1 second' where id = pg_temp.drop_id('tickets')$$, '{}',
    'A drop that was only touched is not announced.'),
  (18, $$update inventory.drops set updated_at = updated_at where id = pg_temp.drop_id('tickets')$$, '{}',
    'Nor is one whose update changed nothing.'),
  (19, $$update inventory.drops set updated_at = now() where id = pg_temp.drop_id('tickets')$$, '{}',
    'Nor is one that was touched again.'),
  (20, $$update inventory.drops set available_stock = 1, total_stock = 1 where id = pg_temp.drop_id('tickets')$$,
    array[pg_temp.drop_event('DROP_UPDATED', 'tickets', '2.00', 1, 1, '2020', null, 'live'), pg_temp.stock_updated('tickets', 1)],
    'Stock that is changed by hand is announced.'),
  (21, $$
      update inventory.drops set available_stock = 3, total_stock = 3 where id = pg_temp.drop_id('tickets');
      update inventory.drops set updated_at = now() where id = pg_temp.drop_id('tickets')
    $$,
    array[pg_temp.drop_event('DROP_UPDATED', 'tickets', '2.00', 3, 3, '2020', null, 'live'), pg_temp.stock_updated('tickets', 3)],
    'What comes after it in the transaction takes nothing back.'),
  -- Changed together with reservations.
  (22, $$select pg_temp.update_drop('renamed', '{"status": "cancelled"}')$$,
    array[pg_temp.drop_event('DROP_UPDATED', 'renamed', '0.00', 1, 1, '2999', null, 'cancelled')],
    'A drop that is cancelled with nothing held has the same stock.')
) as v (n, statement, events, description)
order by v.n;

do $$
begin
  perform pg_temp.hold('tickets', 'ann', 'bob');
  perform pg_temp.hold('shoes', 'ann', 'cat');
  perform pg_temp.buy('shoes', 'bob');
  perform pg_temp.let_run_out('tickets', 'bob');
  perform pg_temp.create_drop('early', 1, 1, '2999-01-01 00:00+00', null);
  perform pg_temp.create_drop('late', 1, 2, '2020-01-01 00:00+00', '2999-01-01 00:00+00');
  perform pg_temp.create_drop('quiet', 1, 2, '2020-01-01 00:00+00', null);
  update inventory.drops set starts_at = '2022-01-01 00:00+00' where id = pg_temp.drop_id('early');
  update inventory.drops set ends_at = '2022-01-01 00:00+00' where id = pg_temp.drop_id('late');
end
$$;
select is(pg_temp.announced(v.statement), v.events, v.description)
from (values
  (1, $$select pg_temp.update_drop('tickets', '{"total_stock": 1}')$$,
    array[
      pg_temp.drop_event('DROP_UPDATED', 'tickets', '2.00', 1, 0, '2020', null, 'live'),
      pg_temp.reservation_expired('tickets', 'bob'), pg_temp.stock_updated('tickets', 0)
    ],
    'Fewer units than are held: the hold that ran out is announced, after the drop and before the stock.'),
  (2, $$select pg_temp.update_drop('shoes', '{"status": "cancelled"}')$$,
    array[
      pg_temp.drop_event('DROP_UPDATED', 'shoes', '10.00', 5, 4, '2021-01-01T00:00:00.5', '2999', 'cancelled'),
      pg_temp.stock_updated('shoes', 4)
    ],
    'A drop that is cancelled gives its holds back; they are cancelled, too, and did not expire.')
) as v (n, statement, events, description)
order by v.n;

-- Moved on by the clock.

create temp table advanced on commit drop as
select e.event from unnest(pg_temp.announced('select api.advance_drops()')) as e (event);
select bag_eq(
  'table advanced',
  array[
    pg_temp.drop_event('DROP_UPDATED', 'early', '1.00', 1, 1, '2022', null, 'live'),
    pg_temp.drop_event('DROP_UPDATED', 'late', '1.00', 2, 2, '2020', '2022', 'ended')
  ],
  'Drops that the clock starts and ends are announced, others are not.'
);
select is(pg_temp.announced('select api.advance_drops()'), '{}', 'When the clock moves nothing, nothing is announced.');

select matches(
  (pg_temp.announced($$update inventory.drops set currency = 'EUR' where id = pg_temp.drop_id('shoes')$$))[1],
  '^DROP_UPDATED .*"currency":"EUR"', 'A currency that is changed by hand is announced.'
);

select * from finish();
rollback;
