-- api.reserve_batches serves requests on several drops as api.reserve_batch serves those of each: one outcome a request, in the
-- order of the requests, and drop by drop in the order of their ids.
begin;
select plan(30);

create function pg_temp.new_drop(p_name text, p_stock integer) returns void language sql as $$
  select api.create_drop(p_name, 10, p_stock, pg_temp.user_id('seller'), now() - interval '1 hour')
$$;

-- Reserve for requests "user drop" or "user drop key".
create function pg_temp.reserve(variadic p_requests text[]) returns setof api.outcome language sql as $$
  select o.*
  from api.reserve_batches(
    array(select pg_temp.drop_id(split_part(r, ' ', 2)) from unnest(p_requests) with ordinality as u (r, n) order by n),
    array(select pg_temp.user_id(split_part(r, ' ', 1)) from unnest(p_requests) with ordinality as u (r, n) order by n),
    array(select nullif(split_part(r, ' ', 3), '') from unnest(p_requests) with ordinality as u (r, n) order by n)) o
$$;

-- The codes they are answered, null for a unit.
create function pg_temp.codes(variadic p_requests text[]) returns text[] language sql as $$
  select array_agg(o.code order by o.n) from pg_temp.reserve(variadic p_requests) o
$$;

-- Who holds units of a drop.
create function pg_temp.holders_of(p_drop text) returns text[] language sql stable as $$
  select array_agg(substr(u.username, 7) order by u.username)
  from inventory.reservations r
  join inventory.users u on u.id = r.user_id
  where r.drop_id = pg_temp.drop_id(p_drop) and r.status = 'ACTIVE'
$$;

-- The announcement that a drop has so many units left.
create function pg_temp.stock(p_drop text, p_units integer) returns text language sql as $$
  select format('STOCK_UPDATED {"dropId":"%s","availableStock":%s}', p_drop, p_units)
$$;

do $$
begin
  perform pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan', 'eve', 'fay');
  perform pg_temp.new_drop(name, 10) from unnest(array['shoes', 'tickets', 'shirts']) as name;
end
$$;

-- Outcomes.

create temp table request on commit drop as
select n, pg_temp.drop_id(u.drop) as drop_id, pg_temp.user_id(u.name) as user_id, u.key
from (values
  (1, 'tickets', 'cat', null), (2, 'shoes', 'ann', 'key-1'), (3, 'shirts', 'cat', null), (4, 'shoes', 'nobody', null),
  (5, 'tickets', 'ann', 'key-1'), (6, 'shirts', 'bob', 'key-2'), (7, 'shoes', 'cat', null), (8, 'tickets', 'bob', null)
) as u (n, drop, name, key);
create temp table outcome on commit drop as
select row_number() over () as place, o.*
from api.reserve_batches(
  array(select r.drop_id from request r order by r.n), array(select r.user_id from request r order by r.n),
  array(select r.key from request r order by r.n), 90) o;
create temp table held on commit drop as
select o.n, r.* from outcome o cross join json_populate_record(null::api.reservation, o.data) r where o.code is null;

select results_eq(
  $$select place::integer, n, status, code, message, replayed from outcome order by place$$,
  $$
    select
      n,
      n,
      case n when 4 then 401 else 201 end,
      case n when 4 then 'AUTH_REQUIRED' end,
      case n when 4 then 'No user has this id. Identify yourself as an existing user.' end,
      false
    from generate_series(1, 8) as n
  $$,
  'Every request has one outcome, in the order of the requests, however the drops are mixed.'
);
select is(
  (select array_agg(key) from outcome, json_object_keys(data) as key where n = 1),
  array['id', 'drop_id', 'user_id', 'status', 'expires_at', 'createdAt', 'updatedAt'],
  'The data of a hold has the names of the wire.'
);
select is((select data::text from outcome where n = 4), null, 'A refusal has no data.');
select results_eq(
  $$select n, drop_id, user_id, status, expires_at, "createdAt", "updatedAt" from held order by n$$,
  $$
    select n, drop_id, user_id, 'ACTIVE', now() + interval '90 seconds', now(), now() from request where n <> 4 order by n
  $$,
  'Each hold is of its drop and of its user, and expires when asked.'
);
select results_eq(
  $$
    select r.id, r.drop_id, r.user_id, r.idempotency_key
    from inventory.reservations r
    where r.drop_id in (select drop_id from request)
    order by r.id
  $$,
  $$select h.id, h.drop_id, h.user_id, r.key from held h join request r using (n) order by h.id$$,
  'What comes back is what is stored, each with its own key or none.'
);
select is(
  array[pg_temp.stock_of('shoes'), pg_temp.stock_of('tickets'), pg_temp.stock_of('shirts')], array[8, 7, 8],
  'One unit a hold leaves the stock of its drop.'
);
select is(
  (select array_agg(d.id order by d.cmin::text::bigint) from inventory.drops d where d.id in (select drop_id from request)),
  (select array_agg(d.id order by d.id) from inventory.drops d where d.id in (select drop_id from request)),
  'The drops are written in the order of their ids, whatever that of the requests.'
);
select is(
  (select (data ->> 'expires_at')::timestamptz from pg_temp.reserve('dan shoes')), now() + interval '60 seconds',
  'A hold lasts a minute unless told.'
);
select results_eq(
  $$
    select n, status
    from api.reserve_batches(
      array[pg_temp.drop_id('tickets'), pg_temp.drop_id('shoes'), pg_temp.drop_id('tickets')],
      pg_temp.user_ids('eve', 'eve', 'fay'), array['key-3'])
  $$,
  $$values (1, 201), (2, 201), (3, 201)$$,
  'There may be fewer keys than requests.'
);
select bag_eq(
  $$
    select drop_id, user_id, idempotency_key
    from inventory.reservations
    where drop_id in (select drop_id from request) and user_id = any (pg_temp.user_ids('eve', 'fay'))
  $$,
  $$
    values
      (pg_temp.drop_id('tickets'), pg_temp.user_id('eve'), 'key-3'), (pg_temp.drop_id('tickets'), pg_temp.user_id('fay'), null),
      (pg_temp.drop_id('shoes'), pg_temp.user_id('eve'), null)
  $$,
  'Requests beyond the array of keys have none.'
);
select is_empty(
  $$select * from api.reserve_batches(array[]::uuid[], array[]::uuid[], array[]::text[])$$, 'A batch of nothing answers nothing.'
);
select is_empty($$select * from api.reserve_batches(null, null, null)$$, 'Nor does one of less than nothing.');

-- Refusals.

do $$
begin
  perform pg_temp.new_drop(name, 2) from unnest(array['last-two', 'other-two', 'over']) as name;
  perform pg_temp.reserve('ann over old', 'ann other-two');
  perform api.update_drop(pg_temp.drop_id('over'), '{"status": "ended"}');
end
$$;
select is(
  pg_temp.codes(
    'nobody last-two', 'ann other-two', 'dan over', 'eve nowhere', 'cat last-two', 'nobody nowhere', 'bob other-two',
    'ann last-two', 'cat other-two', 'cat last-two', 'bob last-two', 'ann over old', 'nobody over', 'ann over new'),
  array[
    'AUTH_REQUIRED', 'ALREADY_RESERVED', 'DROP_NOT_ACTIVE', 'DROP_NOT_FOUND', null, 'AUTH_REQUIRED', null, null,
    'OUT_OF_STOCK', 'ALREADY_RESERVED', 'OUT_OF_STOCK', null, 'AUTH_REQUIRED', 'DROP_NOT_ACTIVE'],
  'Each is told what concerns him, of his drop; a drop that is over serves replays.'
);
select is(pg_temp.holders_of('last-two'), array['ann', 'cat'], 'The last units of a drop go to those who came first for it.');
select is(pg_temp.holders_of('other-two'), array['ann', 'bob'], 'And of another to those who came first for that.');
select is(
  array[pg_temp.stock_of('last-two'), pg_temp.stock_of('other-two'), pg_temp.stock_of('over')], array[0, 0, 1],
  'Exactly what there was is held.'
);
select results_eq(
  $$
    select n, code
    from api.reserve_batches(
      array[null, pg_temp.drop_id('shirts'), pg_temp.drop_id('shirts')],
      pg_temp.user_ids('dan', 'dan') || array[null::uuid], null)
  $$,
  $$values (1, 'DROP_NOT_FOUND'), (2, null), (3, 'AUTH_REQUIRED')$$,
  'No drop is a drop that does not exist, no user one who does not; the neighbour is served.'
);
select is_empty(
  $$
    select o.code
    from pg_temp.reserve('dan over', 'dan last-two', 'ann last-two', 'dan nowhere', 'nobody shoes') o
    left join api.errors() e on e.code = o.code and e.status = o.status and e.message = o.message
    where e.code is null or o.data is not null or o.replayed
  $$,
  'Every refusal has the status and the sentence of api.errors.'
);

-- Keys.

do $$ begin perform pg_temp.new_drop(name, 5) from unnest(array['one', 'two']) as name; end $$;
create temp table replay on commit drop as
select *
from pg_temp.reserve('ann two a', 'ann one a', 'ann two a', 'bob two a', 'ann one a', 'ann two b', 'ann one', 'bob one a');
select results_eq(
  $$select n, status, code, replayed from replay$$,
  $$
    values
      (1, 201, null, false), (2, 201, null, false), (3, 200, null, true), (4, 201, null, false), (5, 200, null, true),
      (6, 409, 'ALREADY_RESERVED', false), (7, 409, 'ALREADY_RESERVED', false), (8, 201, null, false)
  $$,
  'A key repeated for a drop is a replay; for another drop it is another.'
);
select results_eq(
  $$select n, data::text from replay where n in (3, 5) order by n$$,
  $$select n + case n when 1 then 2 else 3 end, data::text from replay where n in (1, 2) order by 1$$,
  'A replay shows the hold of its drop.'
);
select results_eq(
  $$select n, status, replayed, data::text from pg_temp.reserve('ann one a', 'ann two a')$$,
  $$select 3 - n, 200, true, data::text from replay where n in (1, 2) order by 1$$,
  'A key of an earlier call is a replay.'
);
select is(array[pg_temp.stock_of('one'), pg_temp.stock_of('two')], array[3, 3], 'A replay takes no unit.');

-- The same as drop by drop.

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
    perform pg_temp.new_drop(v_prefix || 'plenty', 9);
    perform pg_temp.new_drop(v_prefix || 'short', 3);
    perform pg_temp.new_drop(v_prefix || 'shut', 9);
    perform api.reserve_batch(pg_temp.drop_id(v_prefix || 'shut'), pg_temp.user_ids('ann', 'bob'), array['x', 'y']);
    perform api.reserve_batch(pg_temp.drop_id(v_prefix || 'short'), pg_temp.user_ids('cat', 'dan'), array['x', null]);
    update inventory.reservations set expires_at = now() where drop_id = pg_temp.drop_id(v_prefix || 'short');
    perform api.update_drop(pg_temp.drop_id(v_prefix || 'shut'), '{"status": "ended"}');
  end loop;
end
$$;
create temp table all_at_once on commit drop as
select o.*
from api.reserve_batches(
  array(select pg_temp.drop_id('all ' || m.drop_name) from many m order by m.n),
  array(select pg_temp.user_id(m.name) from many m order by m.n),
  array(select m.key from many m order by m.n), 300) o;
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
cross join lateral api.reserve_batch(pg_temp.drop_id('each ' || of_drop.drop_name), of_drop.user_ids, of_drop.keys, 300) o;
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
  'The outcomes are those of reserve_batch called drop by drop.'
);
select set_eq(
  $$select status, code from all_at_once$$,
  $$
    values
      (201, null), (200, null), (401, 'AUTH_REQUIRED'), (404, 'DROP_NOT_FOUND'), (409, 'DROP_NOT_ACTIVE'), (409, 'OUT_OF_STOCK'),
      (409, 'ALREADY_RESERVED')
  $$,
  'All there are.'
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
  'And so is what it leaves behind.'
);

-- Announcements.

do $$ begin perform pg_temp.new_drop(name, 5) from unnest(array['red', 'blue', 'green']) as name; end $$;
select is(
  (select array_agg(e order by e) from unnest(pg_temp.announced($$
    select pg_temp.reserve(
      'ann red', 'bob blue', 'cat red', 'ann blue', 'nobody green', 'ann red', 'dan red', 'eve nowhere', 'cat blue')
  $$)) as e),
  array[pg_temp.stock('blue', 2), pg_temp.stock('red', 2)],
  'Each drop announces once what is left; one of which nothing was taken does not.'
);

-- A call that cannot be served.

select throws_ok(
  $$select pg_temp.reserve('dan red', 'fay green ' || repeat('k', 256))$$, 'PT400', 'VALIDATION_ERROR',
  'A key that is no key is refused.'
);
select is(
  array[pg_temp.stock_of('red'), pg_temp.stock_of('green')], array[2, 5], 'Then nothing is done for the other drops either.'
);

-- The caller's settings.

set local lock_timeout = '12345ms';
select is(
  (select array_agg(current_setting('lock_timeout') || ' ' || o.status) from pg_temp.reserve('fay red', 'fay green') o)
    || current_setting('lock_timeout'),
  array['12345ms 201', '12345ms 201', '12345ms'], 'The caller''s lock_timeout is what it was.'
);

select is_empty(
  $$
    select a.* from api.audit() a join inventory.drops d on d.id = a.drop_id where d.created_by = pg_temp.user_id('seller')
  $$,
  'No unit was lost or made up on the way.'
);

select * from finish();
rollback;
