-- A sale is announced with its buyer and moment, in the order of arrival, and the drop's latest purchasers whenever they may have
-- changed; a sale that its own transaction took back is not.
begin;
select plan(26);

-- Purchases of one transaction have one time; this gives a sale its own.
create function pg_temp.date_back(p_drop text, p_user text, p_created_at timestamptz) returns void language sql as $$
  update inventory.purchases p set created_at = p_created_at where p.id = pg_temp.purchase_id(p_drop, p_user)
$$;

create function pg_temp.refund(p_drop text, p_user text) returns void language sql as $$
  select api.refund_purchase(pg_temp.purchase_id(p_drop, p_user))
$$;

create function pg_temp.completed(p_drop text, p_user text, p_at text default 'now', p_qty integer default 1)
returns text language sql as $$
  select format('PURCHASE_COMPLETED {"dropId":"%s","username":"pgtap %s","qty":%s,"purchasedAt":"%s"}', p_drop, p_user, p_qty, p_at)
$$;

-- Purchasers are written "ann 1 now", with quantity and time.
create function pg_temp.activity(p_drop text, variadic p_purchasers text[]) returns text language sql as $$
  select format('ACTIVITY_UPDATED {"dropId":"%s","latestPurchasers":[%s]}', p_drop, string_agg(format(
    '{"userId":"%s","username":"pgtap %1$s","qty":%s,"createdAt":"%s"}', p[1], p[2], p[3]), ',' order by n))
  from unnest(p_purchasers) with ordinality as q (purchaser, n)
  cross join string_to_array(q.purchaser, ' ') as p
$$;

select pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan', 'eve', 'fay');
select pg_temp.make_drop(name, 9) from unnest(array['shoes', 'tickets', 'quick', 'batch', 'sold']) as name;
select pg_temp.hold('shoes', 'ann', 'bob', 'cat', 'dan');
select pg_temp.hold('batch', 'ann', 'bob', 'cat', 'dan', 'eve');
select pg_temp.hold(name, 'bob', 'cat', 'dan', 'eve') from unnest(array['tickets', 'quick']) as name;
select pg_temp.buy('sold', 'ann');

select is(
  pg_temp.announced($$select api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key')$$),
  array[pg_temp.completed('shoes', 'ann'), pg_temp.activity('shoes', 'ann 1 now')],
  'A sale announces the buyer and the latest purchasers; stock was announced with the reserve.'
);
select is(
  pg_temp.announced($$select pg_temp.date_back('shoes', 'ann', '2020-01-01 10:00+00')$$),
  array[pg_temp.activity('shoes', 'ann 1 2020-01-01T10:00:00+00:00')], 'A time that is changed by hand is announced, and no sale.'
);
select is(
  pg_temp.announced($$select api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('bob'))$$),
  array[pg_temp.completed('shoes', 'bob'), pg_temp.activity('shoes', 'bob 1 now', 'ann 1 2020-01-01T10:00:00+00:00')],
  'The latest purchaser comes first.'
);
select is(pg_temp.announced(v.statement), '{}', v.description)
from (values
  ($$select api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key')$$, 'A repeat is not announced.'),
  ($$select pg_temp.purchase_all('shoes', 'ann', 'eve')$$, 'A refusal is not announced.')
) as v (statement, description);
do $$
begin
  perform pg_temp.date_back('shoes', 'bob', '2020-01-01 11:00+00');
  perform api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('cat'));
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

create temp table batch on commit drop as
select pg_temp.announced($$select pg_temp.purchase_all('batch', 'cat', 'fay', 'ann', 'bob')$$) as events;
select is(
  events[:3], array[pg_temp.completed('batch', 'cat'), pg_temp.completed('batch', 'ann'), pg_temp.completed('batch', 'bob')],
  'The sales of a batch are announced in the order in which they were asked for.'
)
from batch;
select is(
  events[4:],
  (select array[pg_temp.activity('batch', variadic array_agg(substr(u.username, 7) || ' 1 now' order by p.id desc))]
    from inventory.purchases p
    join inventory.users u on u.id = p.user_id
    where p.drop_id = pg_temp.drop_id('batch')),
  'The latest purchasers are announced after them, once for the batch, and of those of one batch the greatest id comes first.'
)
from batch;
select is(
  (pg_temp.announced($$
    select api.purchase(pg_temp.drop_id('batch'), pg_temp.user_id('eve'));
    select api.purchase(pg_temp.drop_id('batch'), pg_temp.user_id('dan'))
  $$))[:2],
  array[pg_temp.completed('batch', 'eve'), pg_temp.completed('batch', 'dan')],
  'So are sales that come one after the other in a transaction.'
);

create temp table crowd on commit drop as
select array_agg('crowd ' || n order by n * 7 % 300) as names from generate_series(1, 300) as n;
do $$
begin
  perform pg_temp.make_users(variadic names) from crowd;
  perform pg_temp.make_drop('crowded', 300);
  perform pg_temp.reserve_all('crowded', variadic array(select name from crowd, unnest(names) as name order by name));
end
$$;
select is(
  (pg_temp.announced($$select pg_temp.purchase_all('crowded', variadic names) from crowd$$))[:300],
  (select array_agg(pg_temp.completed('crowded', name) order by n) from crowd, unnest(names) with ordinality as c (name, n)),
  'The order is kept among three hundred.'
);

-- Refunds.

select is(pg_temp.announced(v.statement), v.events, v.description)
from (values
  (1, $$select pg_temp.refund('shoes', 'dan')$$,
    array[
      pg_temp.stock_updated('shoes', 6),
      pg_temp.activity('shoes', 'cat 1 2020-01-01T12:00:00+00:00', 'bob 1 2020-01-01T11:00:00+00:00',
        'ann 1 2020-01-01T10:00:00+00:00')
    ],
    'A refund announces the stock and the purchasers who are the latest now.'),
  (2, $$select pg_temp.refusal('select pg_temp.refund(''shoes'', ''dan'')')$$, '{}', 'A refused refund is not announced.'),
  (3, $$select pg_temp.refund('sold', 'ann')$$,
    array[pg_temp.stock_updated('sold', 9), 'ACTIVITY_UPDATED {"dropId":"sold","latestPurchasers":[]}'],
    'When all are refunded there is no latest purchaser.'),
  (4, $$select pg_temp.buy('sold', 'bob'); select pg_temp.refund('sold', 'bob')$$,
    array[pg_temp.stock_updated('sold', 9), 'ACTIVITY_UPDATED {"dropId":"sold","latestPurchasers":[]}'],
    'A sale that is refunded in its own transaction was none.')
) as v (n, statement, events, description)
order by v.n;

-- By hand.

-- Each hold is of two units, so that one sees how many units a purchase is of.
do $$
begin
  update inventory.reservations set qty = 2 where drop_id in (pg_temp.drop_id('tickets'), pg_temp.drop_id('quick'));
  update inventory.drops set available_stock = available_stock - 4
  where id in (pg_temp.drop_id('tickets'), pg_temp.drop_id('quick'));
end
$$;

-- Purchases of these users' holds on a drop, in this order.
create function pg_temp.put_in(p_status text, p_drops text[], variadic p_users text[]) returns void language sql as $$
  update inventory.reservations r set status = 'CONSUMED'
  from unnest(p_drops) as d (name), unnest(p_users) as u (name)
  where r.drop_id = pg_temp.drop_id(d.name) and r.user_id = pg_temp.user_id(u.name);
  insert into inventory.purchases (drop_id, reservation_id, user_id, qty, status, created_at)
  select pg_temp.drop_id(d.name), pg_temp.hold_id(d.name, u.name), pg_temp.user_id(u.name), 2, p_status,
    '2021-01-01 00:00+00'::timestamptz + make_interval(hours => u.n::integer)
  from unnest(p_drops) with ordinality as d (name, n)
  cross join unnest(p_users) with ordinality as u (name, n)
  order by d.n, u.n
$$;

select is(
  pg_temp.announced($$select pg_temp.put_in('pending', array['tickets'], 'bob', 'cat')$$), '{}',
  'A purchase that is not paid yet is not announced.'
);
select bag_eq(
  $sql$select unnest(pg_temp.announced($$select pg_temp.put_in('paid', array['tickets', 'quick'], 'eve', 'dan')$$))$sql$,
  array[
    pg_temp.completed('tickets', 'eve', '2021-01-01T01:00:00+00:00', 2),
    pg_temp.completed('tickets', 'dan', '2021-01-01T02:00:00+00:00', 2),
    pg_temp.activity('tickets', 'dan 2 2021-01-01T02:00:00+00:00', 'eve 2 2021-01-01T01:00:00+00:00'),
    pg_temp.completed('quick', 'eve', '2021-01-01T01:00:00+00:00', 2),
    pg_temp.completed('quick', 'dan', '2021-01-01T02:00:00+00:00', 2),
    pg_temp.activity('quick', 'dan 2 2021-01-01T02:00:00+00:00', 'eve 2 2021-01-01T01:00:00+00:00')
  ],
  'Sales of two drops that one statement puts in are announced, with how many units each is of.'
);
create temp table paid on commit drop as
select pg_temp.announced($$
  update inventory.purchases set status = case status when 'pending' then 'paid' else 'refunded' end
  where drop_id in (pg_temp.drop_id('tickets'), pg_temp.drop_id('quick'));
  update inventory.drops set available_stock = available_stock + 4
  where id in (pg_temp.drop_id('tickets'), pg_temp.drop_id('quick'))
$$) as events;
select bag_eq(
  $$select unnest(events) from paid$$,
  array[
    pg_temp.completed('tickets', 'bob', '2021-01-01T01:00:00+00:00', 2),
    pg_temp.completed('tickets', 'cat', '2021-01-01T02:00:00+00:00', 2),
    pg_temp.activity('tickets', 'cat 2 2021-01-01T02:00:00+00:00', 'bob 2 2021-01-01T01:00:00+00:00'),
    pg_temp.stock_updated('tickets', 5),
    'ACTIVITY_UPDATED {"dropId":"quick","latestPurchasers":[]}', pg_temp.stock_updated('quick', 5)
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
    'A change between two statuses that are not paid is not announced.'),
  (4, 'update inventory.purchases set status = ''paid'' where drop_id = %L and false', '{}',
    'A statement that changes no row announces nothing.'),
  (5, 'update inventory.purchases set status = ''pending'' where drop_id = %L and status = ''paid''',
    array['ACTIVITY_UPDATED {"dropId":"tickets","latestPurchasers":[]}'],
    'A sale that is not paid any more has no purchaser in the feed any more.')
) as v (n, statement, expected, description)
order by v.n;

select is_empty('select from inventory.changes where transaction_id = pg_current_xact_id()', 'Nothing is left to be announced.');

-- By hand, and on a drop that is over.

select pg_temp.make_drop('by hand');
select pg_temp.buy('by hand', 'ann');
select is(
  pg_temp.announced($$
    update inventory.purchases set user_id = pg_temp.user_id('fay') where id = pg_temp.purchase_id('by hand', 'ann')
  $$),
  array[pg_temp.activity('by hand', 'fay 1 now')], 'A sale that is given to another by hand is announced, but not as a new one.'
);
do $$ begin perform api.update_drop(pg_temp.drop_id('by hand'), '{"status": "ended"}'); end $$;
select matches(
  (pg_temp.announced($$
    select api.rename_user_batch(array[row(pg_temp.user_id('fay'), 'pgtap fay new')]::api.user_request[])
  $$))[1],
  '^ACTIVITY_UPDATED .*pgtap fay new', 'So is a buyer of a drop that is over who is renamed.'
);

select * from finish();
rollback;
