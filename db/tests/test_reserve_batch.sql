-- api.reserve_batch serves requests on any drops in the order they came: one outcome each, never a unit more than there is.
begin;
select plan(62);

-- A trigger before an update marks the row as a lock does, so it is not there in this test.
drop trigger drops_raise_revision on inventory.drops;

-- Where and as what the row of a drop is stored: a write moves it, a lock marks it.
create function pg_temp.row_version(p_name text) returns text language sql stable as $$
  select concat_ws(' ', d.ctid, d.xmin, d.xmax, d.updated_at) from inventory.drops d where d.id = pg_temp.drop_id(p_name)
$$;

-- Requests on one drop, in this order; beyond the array of keys there are none.
create function pg_temp.requests(p_drop_id uuid, p_user_ids uuid[], p_keys text[] default null)
returns api.reserve_request[] language sql stable as $$
  select array_agg(row(p_drop_id, q.user_id, p_keys[q.n], null, null)::api.reserve_request order by q.n)
  from unnest(p_user_ids) with ordinality as q (user_id, n)
$$;

select pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan', 'eve', 'fay');

-- Outcomes.

do $$
begin
  perform pg_temp.make_drop('shoes', 10);
  update inventory.drops set updated_at = now() - interval '1 day' where id = pg_temp.drop_id('shoes');
end
$$;
create temp table outcome on commit drop as
select row_number() over () as place, o.*
from api.reserve_batch(
  pg_temp.requests(pg_temp.drop_id('shoes'), pg_temp.user_ids('cat', 'nobody', 'ann'), array[null, null, 'key-1']), 90) o;

select results_eq(
  $$select n, status, code, message, replayed from outcome order by place$$,
  $$
    values
      (1, 201, null, null, false),
      (2, 401, 'AUTH_REQUIRED', 'No user has this id. Identify yourself as an existing user.', false),
      (3, 201, null, null, false)
  $$,
  'Every request has one outcome, in the order of the requests, with status, code and sentence.'
);
select is((select count(*) from outcome where code is not null and data is not null), 0::bigint, 'A refusal has no data.');
select is(
  (select array_agg(key) from outcome, json_object_keys(data) as key where n = 1),
  array['id', 'drop_id', 'variant_id', 'user_id', 'basket_id', 'qty', 'unit_price', 'currency', 'amount', 'status', 'expires_at',
    'extended_at', 'createdAt', 'updatedAt'],
  'The data of a hold has the names of the wire.'
);
create temp table held on commit drop as
select o.n, r.* from outcome o cross join json_populate_record(null::api.reservation_row, o.data) r where o.code is null;
select results_eq(
  $$select n, drop_id, user_id, status, expires_at, "createdAt", "updatedAt" from held order by n$$,
  $$
    values
      (1, pg_temp.drop_id('shoes'), pg_temp.user_id('cat'), 'ACTIVE', now() + interval '90 seconds', now(), now()),
      (3, pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'ACTIVE', now() + interval '90 seconds', now(), now())
  $$,
  'Each hold is of its user and expires when asked.'
);
select results_eq(
  $$
    select r.id, r.user_id, r.status, r.expires_at, r.created_at, r.updated_at, r.idempotency_key
    from inventory.reservations r
    where r.drop_id = pg_temp.drop_id('shoes')
    order by r.id
  $$,
  $$select id, user_id, status, expires_at, "createdAt", "updatedAt", case n when 3 then 'key-1' end from held order by id$$,
  'What comes back is what is stored, each with its own key or none.'
);
select is(pg_temp.stock_of('shoes'), 8, 'One unit a hold leaves the stock.');
select is((select updated_at from inventory.drops where id = pg_temp.drop_id('shoes')), now(), 'The drop says that it changed.');
select is(
  (select (data ->> 'expires_at')::timestamptz from api.reserve_batch(
    pg_temp.requests(pg_temp.drop_id('shoes'), pg_temp.user_ids('bob')))),
  now() + interval '60 seconds', 'A hold lasts a minute unless told.'
);
select is_empty($$select * from api.reserve_batch('{}')$$, 'A batch of nothing answers nothing.');
select is_empty($$select * from api.reserve_batch(null)$$, 'A batch that is null answers nothing.');

-- The last units.

do $$ begin perform pg_temp.make_drop(name, 2) from unnest(array['last two', 'last two more', 'last two again']) as name; end $$;

select is(
  pg_temp.reserve_all('last two', 'cat', 'ann', 'dan', 'bob'), array[null, null, 'OUT_OF_STOCK', 'OUT_OF_STOCK'],
  'The last units go to those who came first.'
);
select is(pg_temp.statuses_on('last two'), array['ann ACTIVE', 'cat ACTIVE'], 'Nobody else holds any.');
select is(pg_temp.stock_of('last two'), 0, 'Then the stock is zero.');
select is(
  pg_temp.reserve_all('last two', 'ann', 'dan', 'nobody'), array['ALREADY_RESERVED', 'OUT_OF_STOCK', 'AUTH_REQUIRED'],
  'Of a drop that is sold out each is told what concerns him.'
);

do $$ begin perform pg_temp.reserve_all('last two more', 'ann'); end $$;
select is(
  pg_temp.reserve_all('last two more', 'nobody', 'ann', 'bob', 'cat'),
  array['AUTH_REQUIRED', 'ALREADY_RESERVED', null, 'OUT_OF_STOCK'],
  'Who is refused takes no place in line.'
);

select is(
  pg_temp.reserve_all('last two again', 'ann', 'ann', 'bob', 'cat', 'cat', 'ann'),
  array[null, 'ALREADY_RESERVED', null, 'OUT_OF_STOCK', 'OUT_OF_STOCK', 'ALREADY_RESERVED'],
  'Who asks twice takes one place in line, and one unit.'
);
select is(pg_temp.statuses_on('last two again'), array['ann ACTIVE', 'bob ACTIVE'], 'Each holds one unit.');

create temp table crowd on commit drop as
select n, pg_temp.user_id('crowd ' || n) as user_id from generate_series(1, 300) as n;
do $$
begin
  perform api.ensure_user(user_id) from crowd;
  perform pg_temp.make_drop('crowded', 100);
end
$$;
select results_eq(
  $$
    select min(o.n), max(o.n), count(*), o.status
    from api.reserve_batch(pg_temp.requests(pg_temp.drop_id('crowded'), array(select user_id from crowd order by n desc))) o
    group by o.status
    order by o.status
  $$,
  $$values (1, 100, 100::bigint, 201), (101, 300, 200::bigint, 409)$$,
  'Of three hundred requests for a hundred units the first hundred are served.'
);
select is(
  (select count(*) from inventory.reservations r join crowd c on c.user_id = r.user_id
    where r.drop_id = pg_temp.drop_id('crowded') and c.n > 200),
  100::bigint, 'The order of the requests counts, and not their users.'
);
select is(pg_temp.stock_of('crowded'), 0, 'Exactly a hundred units were taken.');

-- One user, several requests.

do $$ begin perform pg_temp.make_drop(name, 5) from unnest(array['twice', 'replays']) as name; end $$;

create temp table same_key on commit drop as
select * from api.reserve_batch(
  pg_temp.requests(pg_temp.drop_id('twice'), pg_temp.user_ids('ann', 'ann', 'bob', 'ann', 'ann', 'bob'),
    array['a', 'a', 'a', 'b', 'a', null]));
select results_eq(
  $$select n, status, code, replayed from same_key$$,
  $$
    values
      (1, 201, null, false), (2, 200, null, true), (3, 201, null, false), (4, 409, 'ALREADY_RESERVED', false),
      (5, 200, null, true),
      (6, 409, 'ALREADY_RESERVED', false)
  $$,
  'A key repeated in a batch is a replay; another key, or none, of the same user is refused.'
);
select is(
  (select array_agg(data::text order by n) from same_key where replayed),
  (select array[data::text, data::text] from same_key where n = 1), 'The replay shows the hold that the first request got.'
);
select is(
  (select data ->> 'user_id' from same_key where n = 3), pg_temp.user_id('bob')::text,
  'The same key of another user is a hold of his own.'
);
select is(pg_temp.stock_of('twice'), 3, 'Two users take two units, however often they ask.');

create temp table first_hold on commit drop as
select (o.data ->> 'id')::uuid as id from api.reserve_batch(
  pg_temp.requests(pg_temp.drop_id('replays'), pg_temp.user_ids('ann'), array['old'])) o;
select results_eq(
  $$
    select n, status, replayed, (data ->> 'id')::uuid, data ->> 'status'
    from api.reserve_batch(pg_temp.requests(pg_temp.drop_id('replays'), pg_temp.user_ids('ann', 'ann'), array['old', 'old']))
  $$,
  $$select n, 200, true, id, 'ACTIVE' from first_hold, generate_series(1, 2) as n$$,
  'A key of an earlier batch is a replay, each time.'
);
select is(pg_temp.stock_of('replays'), 4, 'A replay takes no unit.');
do $$ begin perform api.cancel_reservation((select id from first_hold), pg_temp.user_id('ann')); end $$;
create temp table old_and_new on commit drop as
select * from api.reserve_batch(
  pg_temp.requests(pg_temp.drop_id('replays'), pg_temp.user_ids('ann', 'ann', 'ann', 'ann'), array['old', 'new', 'old', 'new']));
select results_eq(
  $$select n, status, code, replayed, data ->> 'status' from old_and_new$$,
  $$values (1, 200, null, true, 'CANCELLED'), (2, 201, null, false, 'ACTIVE'), (3, 200, null, true, 'CANCELLED'),
    (4, 200, null, true, 'ACTIVE')$$,
  'After a cancel the old key shows what became of it, and a new key in the same batch gets a new hold.'
);
select results_eq(
  $$select (data ->> 'id')::uuid from old_and_new where n in (1, 3)$$, $$select id from first_hold, generate_series(1, 2)$$,
  'The old key shows the old reservation.'
);
select is(
  (select count(distinct data ->> 'id') from old_and_new where n in (2, 4)), 1::bigint, 'The new key shows one new reservation.'
);
select isnt((select data ->> 'id' from old_and_new where n = 2), (select id::text from first_hold), 'It is not the old one.');
select is(pg_temp.stock_of('replays'), 4, 'One unit is held.');

do $$ begin perform api.update_drop(pg_temp.drop_id('replays'), '{"status": "ended"}'); end $$;
select results_eq(
  $$
    select n, status, code
    from api.reserve_batch(
      pg_temp.requests(pg_temp.drop_id('replays'), pg_temp.user_ids('ann', 'bob', 'nobody', 'ann'),
        array['new', 'new', 'new', 'c']))
  $$,
  $$values (1, 200, null), (2, 409, 'DROP_NOT_ACTIVE'), (3, 401, 'AUTH_REQUIRED'), (4, 409, 'DROP_NOT_ACTIVE')$$,
  'A drop that is over serves only replays.'
);

-- Drops that cannot be.

select results_eq(
  format(
    'select n, status, code
     from api.reserve_batch(pg_temp.requests(%L, pg_temp.user_ids(''ann'', ''nobody'', ''ann''), array[''a'', ''a'', ''a'']))',
    v.id),
  $$values (1, 404, 'DROP_NOT_FOUND'), (2, 401, 'AUTH_REQUIRED'), (3, 404, 'DROP_NOT_FOUND')$$,
  v.description
)
from (values
  (gen_random_uuid(), 'Every request on a drop that does not exist is refused; an unknown user learns nothing about drops.'),
  (null, 'No drop is a drop that does not exist.')
) as v (id, description);
select results_eq(
  $$select n, code from api.reserve_batch(pg_temp.requests(pg_temp.drop_id('shoes'), array[null, pg_temp.user_id('fay')]))$$,
  $$values (1, 'AUTH_REQUIRED'), (2, null)$$,
  'A request without a user is refused, its neighbour is served.'
);
select is_empty(
  $$
    select o.code, o.status, o.message
    from (
      select * from api.reserve_batch(pg_temp.requests(pg_temp.drop_id('last two'), pg_temp.user_ids('ann', 'dan', 'nobody')))
      union all
      select * from api.reserve_batch(pg_temp.requests(pg_temp.drop_id('replays'), pg_temp.user_ids('bob')))
      union all
      select * from api.reserve_batch(pg_temp.requests(gen_random_uuid(), pg_temp.user_ids('bob')))
    ) o
    left join api.errors() e on e.code = o.code and e.status = o.status and e.message = o.message
    where e.code is null
  $$,
  'Every refusal has the status and the sentence of api.errors.'
);

-- Several drops.

-- Requests "user drop" or "user drop key".
create function pg_temp.mixed(variadic p_requests text[]) returns api.reserve_request[] language sql stable as $$
  select array_agg(
    row(pg_temp.drop_id(split_part(r, ' ', 2)), pg_temp.user_id(split_part(r, ' ', 1)), nullif(split_part(r, ' ', 3), ''),
      null, null)
      ::api.reserve_request
    order by n)
  from unnest(p_requests) with ordinality as u (r, n)
$$;

-- Who holds units of a drop.
create function pg_temp.holders_of(p_drop text) returns text[] language sql stable as $$
  select array_agg(u.name order by u.name)
  from inventory.reservations r
  join unnest(array['ann', 'bob', 'cat', 'dan', 'eve', 'fay']) as u (name) on pg_temp.user_id(u.name) = r.user_id
  where r.drop_id = pg_temp.drop_id(p_drop) and r.status = 'ACTIVE'
$$;

-- The announcement that a drop has so many units left.
create function pg_temp.stock(p_drop text, p_units integer) returns text language sql as $$
  select format('STOCK_UPDATED {"dropId":"%s","availableStock":%s}', p_drop, p_units)
$$;

do $$
begin
  perform pg_temp.make_drop(name, 10) from unnest(array['hats', 'tickets', 'shirts']) as name;
end
$$;
create temp table request on commit drop as
select r.ordinality::integer as n, r.drop_id, r.user_id, r.idempotency_key
from unnest(pg_temp.mixed(
  'cat tickets', 'ann hats key-1', 'cat shirts', 'nobody hats', 'ann tickets key-1', 'bob shirts key-2', 'cat hats',
    'bob tickets'))
  with ordinality r;
create temp table mixed_outcome on commit drop as
select row_number() over () as place, o.*
from api.reserve_batch(
  (select array_agg(row(r.drop_id, r.user_id, r.idempotency_key, null, null)::api.reserve_request order by r.n) from request r),
  90) o;
select results_eq(
  $$select place::integer, n, status, code, replayed, data ->> 'expires_at' is null from mixed_outcome order by place$$,
  $$
    select n, n, case n when 4 then 401 else 201 end, case n when 4 then 'AUTH_REQUIRED' end, false, n = 4
    from generate_series(1, 8) as n
  $$,
  'Every request has one outcome, in the order of the requests, however the drops are mixed.'
);
select results_eq(
  $$
    select o.n, r.drop_id, r.user_id, r.status, r.expires_at, r.created_at, r.idempotency_key
    from mixed_outcome o
    join inventory.reservations r on r.id = (o.data ->> 'id')::uuid
    order by o.n
  $$,
  $$
    select n, drop_id, user_id, 'ACTIVE', now() + interval '90 seconds', now(), idempotency_key
    from request where n <> 4 order by n
  $$,
  'Each hold is of its drop and of its user, with its own key or none, and expires when asked.'
);
select is(
  array[pg_temp.stock_of('hats'), pg_temp.stock_of('tickets'), pg_temp.stock_of('shirts')], array[8, 7, 8],
  'One unit a hold leaves the stock of its drop.'
);

do $$
begin
  perform pg_temp.make_drop(name, 2) from unnest(array['two', 'other-two', 'ended']) as name;
  perform api.reserve_batch(pg_temp.mixed('ann ended old', 'ann other-two'));
  perform api.update_drop(pg_temp.drop_id('ended'), '{"status": "ended"}');
end
$$;
select is(
  (select array_agg(o.code order by o.n) from api.reserve_batch(pg_temp.mixed(
    'nobody two', 'ann other-two', 'dan ended', 'eve nowhere', 'cat two', 'nobody nowhere', 'bob other-two', 'ann two',
    'cat other-two', 'cat two', 'bob two', 'ann ended old', 'nobody ended', 'ann ended new')) o),
  array[
    'AUTH_REQUIRED', 'ALREADY_RESERVED', 'DROP_NOT_ACTIVE', 'DROP_NOT_FOUND', null, 'AUTH_REQUIRED', null, null,
    'OUT_OF_STOCK', 'ALREADY_RESERVED', 'OUT_OF_STOCK', null, 'AUTH_REQUIRED', 'DROP_NOT_ACTIVE'],
  'Each is told what concerns him, of his drop; a drop that is over serves replays.'
);
select is(
  array[pg_temp.holders_of('two'), pg_temp.holders_of('other-two')], array[array['ann', 'cat'], array['ann', 'bob']],
  'The last units of each drop go to those who came first for it.'
);
select results_eq(
  $$
    select n, code
    from api.reserve_batch(array[
      row(null, pg_temp.user_id('dan'), null, null, null), null, row(pg_temp.drop_id('shirts'), null, null, null, null),
      row(pg_temp.drop_id('shirts'), pg_temp.user_id('dan'), null, null, null)]::api.reserve_request[])
  $$,
  $$values (1, 'DROP_NOT_FOUND'), (2, 'AUTH_REQUIRED'), (3, 'AUTH_REQUIRED'), (4, null)$$,
  'A request without a drop, without anything or without a user is refused; the neighbour is served.'
);

do $$ begin perform pg_temp.make_drop(name, 5) from unnest(array['left', 'right']) as name; end $$;
create temp table mixed_replay on commit drop as
select *
from api.reserve_batch(pg_temp.mixed(
  'ann right a', 'ann left a', 'ann right a', 'bob right a', 'ann left a', 'ann right b', 'ann left', 'bob left a'));
select results_eq(
  $$select n, status, code, replayed from mixed_replay$$,
  $$
    values
      (1, 201, null, false), (2, 201, null, false), (3, 200, null, true), (4, 201, null, false), (5, 200, null, true),
      (6, 409, 'ALREADY_RESERVED', false), (7, 409, 'ALREADY_RESERVED', false), (8, 201, null, false)
  $$,
  'A key repeated for a drop is a replay; for another drop it is another.'
);
select results_eq(
  $$select n, data::text from mixed_replay where n in (3, 5) order by n$$,
  $$select n + case n when 1 then 2 else 3 end, data::text from mixed_replay where n in (1, 2) order by 1$$,
  'A replay shows the hold of its drop.'
);

-- All drops in one call, and the same requests in a call for each drop.

create temp table many on commit drop as
select
  row_number() over (order by md5(u || ' ' || d || ' ' || k))::integer as n,
  u as name,
  d as drop_name,
  nullif(k, '-') as key
from unnest(array['ann', 'bob', 'cat', 'dan', 'eve', 'fay', 'nobody']) as u
cross join unnest(array['plenty', 'short', 'shut', 'nowhere']) as d
cross join unnest(array['-', 'x', 'y']) as k;
do $$
declare
  v_prefix text;
begin
  foreach v_prefix in array array['all ', 'each '] loop
    perform pg_temp.make_drop(v_prefix || 'plenty', 9);
    perform pg_temp.make_drop(v_prefix || 'short', 3);
    perform pg_temp.make_drop(v_prefix || 'shut', 9);
    perform api.reserve_batch(
      pg_temp.requests(pg_temp.drop_id(v_prefix || 'shut'), pg_temp.user_ids('ann', 'bob'), array['x', 'y'])
      || pg_temp.requests(pg_temp.drop_id(v_prefix || 'short'), pg_temp.user_ids('cat', 'dan'), array['x']));
    update inventory.reservations set expires_at = now() where drop_id = pg_temp.drop_id(v_prefix || 'short');
    perform api.update_drop(pg_temp.drop_id(v_prefix || 'shut'), '{"status": "ended"}');
  end loop;
end
$$;
create temp table all_at_once on commit drop as
select o.*
from api.reserve_batch(
  array(
    select row(pg_temp.drop_id('all ' || m.drop_name), pg_temp.user_id(m.name),
      m.key, null, null)::api.reserve_request from many m order by m.n
  ),
  300) o;
create temp table drop_by_drop on commit drop as
select of_drop.ns[o.n] as n, o.status, o.code, o.message, o.replayed, o.data
from (
  select
    m.drop_name,
    array_agg(m.n order by m.n) as ns,
    array_agg(pg_temp.user_id(m.name) order by m.n) as user_ids,
    array_agg(m.key order by m.n) as keys
  from many m
  group by m.drop_name
) of_drop
cross join lateral api.reserve_batch(
  pg_temp.requests(pg_temp.drop_id('each ' || of_drop.drop_name), of_drop.user_ids, of_drop.keys), 300) o;
select results_eq(
  $$
    select n, status, code, message, replayed, data ->> 'user_id', data ->> 'status', data ->> 'expires_at', data ->> 'createdAt'
    from all_at_once
  $$,
  $$
    select n, status, code, message, replayed, data ->> 'user_id', data ->> 'status', data ->> 'expires_at', data ->> 'createdAt'
    from drop_by_drop
    order by n
  $$,
  'The outcomes are those of a call for each drop.'
);
select set_eq(
  $$select status, code from all_at_once$$,
  $$
    values
      (201, null), (200, null), (401, 'AUTH_REQUIRED'), (404, 'DROP_NOT_FOUND'), (409, 'DROP_NOT_ACTIVE'), (409, 'OUT_OF_STOCK'),
      (409, 'ALREADY_RESERVED')
  $$,
  'Every code is among them.'
);
select results_eq(
  $$
    select pg_temp.stock_of('all ' || name), pg_temp.holders_of('all ' || name)
    from unnest(array['plenty', 'short', 'shut']) as name
  $$,
  $$
    select pg_temp.stock_of('each ' || name), pg_temp.holders_of('each ' || name)
    from unnest(array['plenty', 'short', 'shut']) as name
  $$,
  'So is what the calls leave behind.'
);

-- Announcements, a call that cannot be served, and the caller's settings.

do $$ begin perform pg_temp.make_drop(name, 5) from unnest(array['red', 'blue', 'green']) as name; end $$;
select is(
  (select array_agg(e order by e) from unnest(pg_temp.announced($$
    select api.reserve_batch(pg_temp.mixed(
      'ann red', 'bob blue', 'cat red', 'ann blue', 'nobody green', 'ann red', 'dan red', 'eve nowhere', 'cat blue'))
  $$)) as e),
  array[pg_temp.stock('blue', 2), pg_temp.stock('red', 2)],
  'Each drop announces once what is left; one of which nothing was taken does not.'
);
select throws_ok(
  $$select api.reserve_batch(pg_temp.mixed('dan red', 'fay green ' || repeat('k', 256)))$$, 'PT400', 'VALIDATION_ERROR',
  'A key that is no key is refused.'
);
select is(
  array[pg_temp.stock_of('red'), pg_temp.stock_of('green')], array[2, 5], 'Then nothing is done for the other drops either.'
);
set local lock_timeout = '12345ms';
select is(
  (select array_agg(current_setting('lock_timeout') || ' ' || o.status)
    from api.reserve_batch(pg_temp.mixed('fay red', 'fay green')) o) || current_setting('lock_timeout'),
  array['12345ms 201', '12345ms 201', '12345ms'], 'The caller''s lock_timeout is what it was.'
);
set local lock_timeout = 0;

-- When nobody can be served nothing is locked or written.

create function pg_temp.is_left_alone(p_drop text, p_expected text) returns setof text language plpgsql as $$
declare
  v_before text := pg_temp.row_version(p_drop);
begin
  return next is(pg_temp.reserve_all(p_drop, 'dan', 'eve'), array[p_expected, p_expected],
    format('On the drop "%s" both are refused.', p_drop));
  return next is(pg_temp.row_version(p_drop), v_before,
    format('The row of the drop "%s" is neither locked nor written.', p_drop));
  perform from inventory.drops d where d.id = pg_temp.drop_id(p_drop) for no key update;
  return next isnt(pg_temp.row_version(p_drop), v_before, format('A lock on the row of the drop "%s" would have shown.', p_drop));
end
$$;

-- Rows that were not locked before in this transaction: the stock is taken away by hand, because a hold would lock the row.
do $$
begin
  perform pg_temp.make_drop(name, 5) from unnest(array['sold out', 'over']) as name;
  update inventory.drops set available_stock = 0, total_stock = 1 where id = pg_temp.drop_id('sold out');
  update inventory.drops set status = 'ended' where id = pg_temp.drop_id('over');
end
$$;
select pg_temp.is_left_alone('sold out', 'OUT_OF_STOCK');
select pg_temp.is_left_alone('over', 'DROP_NOT_ACTIVE');

select throws_ok(
  format(
    $$select api.reserve_batch(pg_temp.requests(%L, array[%L]::uuid[], array[null]), %s)$$,
    pg_temp.drop_id('sold out'), pg_temp.user_id('ann'), ttl),
  'PT400', 'VALIDATION_ERROR', format('A hold of %s seconds is refused.', ttl)
)
from unnest(array['0', '-5', '86401', 'null']) as ttl;

select is_empty(
  $$
    select a.* from api.audit() a join inventory.drops d on d.id = a.drop_id
    where d.created_by = pg_temp.user_id('seller') and d.name <> 'sold out'
  $$,
  'No unit was lost or made up on the way.'
);

select * from finish();
rollback;
