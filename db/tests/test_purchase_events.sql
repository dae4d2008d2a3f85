-- A sale is announced with its buyer and moment, in the order of arrival, and the drop's latest purchasers whenever they may have
-- changed; a sale that was taken back before anybody could hear of it is not.
begin;
select plan(24);

-- Purchase what these users reserve at this moment.
create function pg_temp.buy(p_drop text, variadic p_users text[]) returns void language plpgsql as $$
begin
  perform api.reserve_batch(pg_temp.drop_id(p_drop), pg_temp.user_ids(variadic p_users), null);
  perform api.purchase_batch(pg_temp.drop_id(p_drop), pg_temp.user_ids(variadic p_users), null);
end
$$;

-- Purchases of one transaction have one time; this gives a sale its own.
create function pg_temp.date_back(p_drop text, p_user text, p_created_at timestamptz) returns void language sql as $$
  update inventory.purchases p
  set created_at = p_created_at
  where p.drop_id = pg_temp.drop_id(p_drop) and p.user_id = pg_temp.user_id(p_user)
$$;

create function pg_temp.refund(p_drop text, p_user text) returns void language sql as $$
  select api.refund_purchase(p.id)
  from inventory.purchases p
  where p.drop_id = pg_temp.drop_id(p_drop) and p.user_id = pg_temp.user_id(p_user)
$$;

create function pg_temp.completed(p_drop text, p_user text, p_at text default 'now') returns text language sql as $$
  select format('PURCHASE_COMPLETED {"dropId":"%s","username":"pgtap %s","purchasedAt":"%s"}', p_drop, p_user, p_at)
$$;

create function pg_temp.stock(p_drop text, p_units integer) returns text language sql as $$
  select format('STOCK_UPDATED {"dropId":"%s","availableStock":%s}', p_drop, p_units)
$$;

-- Purchasers are written "ann 1 now", with quantity and time.
create function pg_temp.activity(p_drop text, variadic p_purchasers text[]) returns text language sql as $$
  select format('ACTIVITY_UPDATED {"dropId":"%s","latestPurchasers":[%s]}', p_drop, string_agg(format(
    '{"userId":"%s","username":"pgtap %1$s","qty":%s,"createdAt":"%s"}', p[1], p[2], p[3]), ',' order by n))
  from unnest(p_purchasers) with ordinality as q (purchaser, n)
  cross join string_to_array(q.purchaser, ' ') as p
$$;

-- The names in an ACTIVITY_UPDATED, in alphabetical order.
create function pg_temp.purchasers_in(p_event text) returns text[] language sql as $$
  select array_agg(u[1] order by n) from regexp_matches(p_event, '"userId":"([^"]*)"', 'g') with ordinality as m (u, n)
  where p_event like 'ACTIVITY_UPDATED %'
$$;

do $$
begin
  perform pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan', 'eve', 'fay');
  perform api.create_drop(name, 10, 9, pg_temp.user_id('seller'), now() - interval '1 hour')
  from unnest(array['shoes', 'tickets', 'quick', 'batch']) as name;
  perform api.reserve_batch(pg_temp.drop_id('shoes'), pg_temp.user_ids('ann', 'bob', 'cat', 'dan'), null);
end
$$;

select is(
  pg_temp.announced($$select api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key')$$),
  array[pg_temp.completed('shoes', 'ann'), pg_temp.activity('shoes', 'ann 1 now')],
  'A sale announces the buyer and the latest purchasers; stock was announced with the reserve.'
);
do $$ begin perform pg_temp.date_back('shoes', 'ann', '2020-01-01 10:00+00'); end $$;
select is(
  pg_temp.announced($$select api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('bob'))$$),
  array[pg_temp.completed('shoes', 'bob'), pg_temp.activity('shoes', 'bob 1 now', 'ann 1 2020-01-01T10:00:00+00:00')],
  'The latest purchaser comes first.'
);
select is(
  pg_temp.announced($$select api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key')$$), '{}',
  'A repeat is not announced.'
);
select is(
  pg_temp.announced($$select api.purchase_batch(pg_temp.drop_id('shoes'), pg_temp.user_ids('ann', 'eve'), null)$$), '{}',
  'A refusal is not announced.'
);
do $$
begin
  perform pg_temp.date_back('shoes', 'bob', '2020-01-01 11:00+00');
  perform api.purchase_batch(pg_temp.drop_id('shoes'), pg_temp.user_ids('cat'), null);
  perform pg_temp.date_back('shoes', 'cat', '2020-01-01 12:00+00');
end
$$;
select is(
  pg_temp.announced($$select api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('dan'))$$),
  array[
    pg_temp.completed('shoes', 'dan'),
    pg_temp.activity('shoes', 'dan 1 now', 'cat 1 2020-01-01T12:00:00+00:00', 'bob 1 2020-01-01T11:00:00+00:00')
  ],
  'Three purchasers are the most that are shown.'
);

-- Batches.

do $$
begin
  perform api.reserve_batch(pg_temp.drop_id('batch'), pg_temp.user_ids('ann', 'bob', 'cat', 'dan', 'eve'), null);
end
$$;
create temp table batch on commit drop as
select pg_temp.announced($$
  select api.purchase_batch(pg_temp.drop_id('batch'), pg_temp.user_ids('cat', 'fay', 'ann', 'cat', 'bob'), null)
$$) as events;
select is(
  (select events[:3] from batch),
  array[pg_temp.completed('batch', 'cat'), pg_temp.completed('batch', 'ann'), pg_temp.completed('batch', 'bob')],
  'The sales of a batch are announced in the order in which they were asked for.'
);
select is(
  (select pg_temp.purchasers_in(events[4]) from batch),
  array(
    select substring(u.username from '[a-z]*$')
    from inventory.purchases p
    join inventory.users u on u.id = p.user_id
    where p.drop_id = pg_temp.drop_id('batch')
    order by p.created_at desc, p.id desc
  ),
  'The latest purchasers are announced after them, and of those of one batch the greatest id comes first.'
);
select is((select cardinality(events) from batch), 4, 'Once for the batch.');
select is(
  (pg_temp.announced($$
    do $do$
    begin
      perform api.purchase(pg_temp.drop_id('batch'), pg_temp.user_id(name)) from unnest(array['eve', 'dan']) as name;
    end
    $do$
  $$))[:2],
  array[pg_temp.completed('batch', 'eve'), pg_temp.completed('batch', 'dan')],
  'So are sales that come one after the other in a transaction.'
);

create temp table crowd on commit drop as select n, 'crowd ' || n as name from generate_series(1, 300) as n;
do $$
begin
  perform pg_temp.make_users(variadic array(select name from crowd));
  perform api.create_drop('crowded', 10, 300, pg_temp.user_id('seller'), now() - interval '1 hour');
  perform api.reserve_batch(pg_temp.drop_id('crowded'), pg_temp.user_ids(variadic array(select name from crowd)), null);
end
$$;
select is(
  (pg_temp.announced($$
    select api.purchase_batch(
      pg_temp.drop_id('crowded'), pg_temp.user_ids(variadic array(select name from crowd order by n * 7 % 300)), null)
  $$))[:300],
  array(select pg_temp.completed('crowded', name) from crowd order by n * 7 % 300),
  'The order is kept among three hundred.'
);

-- Refunds.

select is(
  pg_temp.announced($$select pg_temp.refund('shoes', 'dan')$$),
  array[
    pg_temp.stock('shoes', 6),
    pg_temp.activity('shoes', 'cat 1 2020-01-01T12:00:00+00:00', 'bob 1 2020-01-01T11:00:00+00:00',
      'ann 1 2020-01-01T10:00:00+00:00')
  ],
  'A refund announces the stock and those who are the latest purchasers now.'
);
select is(
  pg_temp.announced(format('select pg_temp.refusal(%L)', $$select pg_temp.refund('shoes', 'dan')$$)), '{}',
  'A refund that is refused is not announced.'
);
do $$ begin perform pg_temp.buy('tickets', 'ann'); end $$;
select is(
  pg_temp.announced($$select pg_temp.refund('tickets', 'ann')$$),
  array[pg_temp.stock('tickets', 9), 'ACTIVITY_UPDATED {"dropId":"tickets","latestPurchasers":[]}'],
  'When all are refunded there is no latest purchaser.'
);
select is(
  pg_temp.announced($$
    do $do$
    begin
      perform pg_temp.buy('quick', 'ann');
      perform pg_temp.refund('quick', 'ann');
    end
    $do$
  $$),
  array[pg_temp.stock('quick', 9), 'ACTIVITY_UPDATED {"dropId":"quick","latestPurchasers":[]}'],
  'A sale that is refunded in its own transaction was none.'
);

-- By hand.

do $$
begin
  perform api.reserve_batch(pg_temp.drop_id(name), pg_temp.user_ids('bob', 'cat', 'dan', 'eve'), null)
  from unnest(array['tickets', 'quick']) as name;
end
$$;

-- Purchases of these users' holds on a drop, in this order.
create function pg_temp.put_in(p_status text, p_drops text[], variadic p_users text[]) returns void language sql as $$
  insert into inventory.purchases (drop_id, reservation_id, user_id, qty, status, created_at)
  select r.drop_id, r.id, r.user_id, 2, p_status, '2021-01-01 00:00+00'::timestamptz + make_interval(hours => u.n::integer)
  from unnest(p_drops) with ordinality as d (name, n)
  cross join unnest(p_users) with ordinality as u (name, n)
  join inventory.reservations r
    on r.drop_id = pg_temp.drop_id(d.name) and r.user_id = pg_temp.user_id(u.name) and r.status = 'ACTIVE'
  order by d.n, u.n
$$;

select is(
  pg_temp.announced($$select pg_temp.put_in('pending', array['tickets'], 'bob', 'cat')$$), '{}',
  'A purchase that is not paid yet is not announced.'
);
select bag_eq(
  $sql$select unnest(pg_temp.announced($$select pg_temp.put_in('paid', array['tickets', 'quick'], 'eve', 'dan')$$))$sql$,
  array[
    pg_temp.completed('tickets', 'eve', '2021-01-01T01:00:00+00:00'),
    pg_temp.completed('tickets', 'dan', '2021-01-01T02:00:00+00:00'),
    pg_temp.activity('tickets', 'dan 2 2021-01-01T02:00:00+00:00', 'eve 2 2021-01-01T01:00:00+00:00'),
    pg_temp.completed('quick', 'eve', '2021-01-01T01:00:00+00:00'),
    pg_temp.completed('quick', 'dan', '2021-01-01T02:00:00+00:00'),
    pg_temp.activity('quick', 'dan 2 2021-01-01T02:00:00+00:00', 'eve 2 2021-01-01T01:00:00+00:00')
  ],
  'Sales of two drops that one statement puts in are announced, with how many units each is of.'
);
create temp table paid on commit drop as
select pg_temp.announced($$
  update inventory.purchases set status = case status when 'pending' then 'paid' else 'refunded' end
  where drop_id in (pg_temp.drop_id('tickets'), pg_temp.drop_id('quick'))
$$) as events;
select bag_eq(
  $$select unnest(events) from paid$$,
  array[
    pg_temp.completed('tickets', 'bob', '2021-01-01T01:00:00+00:00'),
    pg_temp.completed('tickets', 'cat', '2021-01-01T02:00:00+00:00'),
    pg_temp.activity('tickets', 'cat 2 2021-01-01T02:00:00+00:00', 'bob 2 2021-01-01T01:00:00+00:00'),
    'ACTIVITY_UPDATED {"dropId":"quick","latestPurchasers":[]}'
  ],
  'One statement over two drops that pays some and refunds others announces what was paid, and both drops'' purchasers.'
);
select ok(
  (select max(n) filter (where events[n] like 'PURCHASE_COMPLETED %')
      < min(n) filter (where events[n] like 'ACTIVITY_UPDATED {"dropId":"tickets",%')
    from paid, generate_subscripts(events, 1) as n),
  'The purchasers come after the sales.'
);
select is(pg_temp.announced(format(v.statement, pg_temp.drop_id('tickets'))), v.expected, v.description)
from (values
  (1, 'update inventory.purchases set updated_at = now() where drop_id = %L', '{}'::text[],
    'A sale that is only touched is not announced again.'),
  (2, 'update inventory.purchases set status = ''paid'' where drop_id = %L and status = ''paid''', '{}',
    'Nor is one that stays paid.'),
  (3, 'update inventory.purchases set status = ''cancelled'' where drop_id = %L and status = ''refunded''', '{}',
    'What was not paid and is not is of no interest.'),
  (4, 'update inventory.purchases set status = ''paid'' where drop_id = %L and false', '{}',
    'A statement that changes no row announces nothing.'),
  (5, 'update inventory.purchases set status = ''pending'' where drop_id = %L and status = ''paid''',
    array['ACTIVITY_UPDATED {"dropId":"tickets","latestPurchasers":[]}'],
    'A sale that is not paid any more is no purchaser''s any more.')
) as v (n, statement, expected, description)
order by v.n;

select is_empty(
  'select from inventory.changes where transaction_id = pg_current_xact_id()', 'Nothing is left to be announced.'
);

select * from finish();
rollback;
