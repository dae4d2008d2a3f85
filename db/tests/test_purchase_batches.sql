-- api.purchase_batches sells holds on several drops as api.purchase_batch sells those of each: one outcome a request, in the
-- order of the requests, and drop by drop in the order of their ids.
begin;
select plan(25);

create function pg_temp.new_drop(p_name text) returns void language sql as $$
  select api.create_drop(p_name, 10, 10, pg_temp.user_id('seller'), now() - interval '1 hour')
$$;

-- Reserve on a drop for these users.
create function pg_temp.reserve(p_drop text, variadic p_users text[]) returns void language sql as $$
  select api.reserve_batch(pg_temp.drop_id(p_drop), pg_temp.user_ids(variadic p_users), null)
$$;

-- Purchase for requests "user drop" or "user drop key".
create function pg_temp.purchase(variadic p_requests text[]) returns setof api.outcome language sql as $$
  select o.*
  from api.purchase_batches(
    array(select pg_temp.drop_id(split_part(r, ' ', 2)) from unnest(p_requests) with ordinality as u (r, n) order by n),
    array(select pg_temp.user_id(split_part(r, ' ', 1)) from unnest(p_requests) with ordinality as u (r, n) order by n),
    array(select nullif(split_part(r, ' ', 3), '') from unnest(p_requests) with ordinality as u (r, n) order by n)) o
$$;

-- Let a hold run out now.
create function pg_temp.run_out(p_drop text, p_user text) returns void language sql as $$
  update inventory.reservations r
  set expires_at = now()
  where r.drop_id = pg_temp.drop_id(p_drop) and r.user_id = pg_temp.user_id(p_user) and r.status = 'ACTIVE'
$$;

-- What became of all reservations on a drop, by user and status.
create function pg_temp.reservations_of(p_drop text) returns text[] language sql stable as $$
  select array_agg(substr(u.username, 7) || ' ' || r.status order by u.username, r.status)
  from inventory.reservations r
  join inventory.users u on u.id = r.user_id
  where r.drop_id = pg_temp.drop_id(p_drop)
$$;

do $$
begin
  perform pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan', 'eve', 'fay');
  perform pg_temp.new_drop(name) from unnest(array['shoes', 'tickets', 'shirts']) as name;
  perform pg_temp.reserve('shoes', 'ann', 'bob', 'cat');
  perform pg_temp.reserve('tickets', 'ann', 'bob', 'cat', 'dan');
  perform pg_temp.reserve('shirts', 'ann', 'cat', 'eve');
end
$$;

-- Outcomes.

create temp table request on commit drop as
select n, pg_temp.drop_id(u.drop) as drop_id, pg_temp.user_id(u.name) as user_id, u.key
from (values
  (1, 'tickets', 'cat', null), (2, 'shoes', 'ann', 'key-1'), (3, 'shirts', 'cat', null), (4, 'shoes', 'fay', null),
  (5, 'tickets', 'ann', 'key-1'), (6, 'shirts', 'ann', 'key-2'), (7, 'shoes', 'cat', null), (8, 'tickets', 'bob', null)
) as u (n, drop, name, key);
create temp table outcome on commit drop as
select row_number() over () as place, o.*
from api.purchase_batches(
  array(select r.drop_id from request r order by r.n), array(select r.user_id from request r order by r.n),
  array(select r.key from request r order by r.n)) o;
create temp table sale on commit drop as
select o.n, p.* from outcome o cross join json_populate_record(null::api.purchase, o.data) p where o.code is null;

select results_eq(
  $$select place::integer, n, status, code, message, replayed from outcome order by place$$,
  $$
    select
      n,
      n,
      case n when 4 then 409 else 201 end,
      case n when 4 then 'NO_ACTIVE_RESERVATION' end,
      case n when 4 then 'You hold no unit of this drop. Reserve one first.' end,
      false
    from generate_series(1, 8) as n
  $$,
  'Every request has one outcome, in the order of the requests, however the drops are mixed.'
);
select is(
  (select array_agg(key) from outcome, json_object_keys(data) as key where n = 1),
  array['id', 'drop_id', 'reservation_id', 'user_id', 'qty', 'status', 'createdAt', 'updatedAt'],
  'The data of a purchase has the names of the wire.'
);
select is((select data::text from outcome where n = 4), null, 'A refusal has no data.');
select results_eq(
  $$
    select s.n, s.drop_id, s.user_id, r.user_id, s.qty, s.status, s."createdAt", s."updatedAt"
    from sale s
    join inventory.reservations r on r.id = s.reservation_id and r.drop_id = s.drop_id
    order by s.n
  $$,
  $$select n, drop_id, user_id, user_id, 1, 'paid', now(), now() from request where n <> 4 order by n$$,
  'Each purchase is of one unit of its drop, paid, from the reservation of its user.'
);
select results_eq(
  $$
    select p.id, p.drop_id, p.reservation_id, p.user_id, p.qty, p.status, p.created_at, p.updated_at, p.idempotency_key
    from inventory.purchases p
    where p.drop_id in (select drop_id from request)
    order by p.id
  $$,
  $$
    select s.id, s.drop_id, s.reservation_id, s.user_id, s.qty, s.status, s."createdAt", s."updatedAt", r.key
    from sale s
    join request r using (n)
    order by s.id
  $$,
  'What comes back is what is stored, each with its own key or none.'
);
select is(
  array[pg_temp.reservations_of('shoes'), pg_temp.reservations_of('shirts')],
  array[
    array['ann CONSUMED', 'bob ACTIVE', 'cat CONSUMED'],
    array['ann CONSUMED', 'cat CONSUMED', 'eve ACTIVE']],
  'Exactly their reservations are CONSUMED.'
);
select is(
  pg_temp.reservations_of('tickets'), array['ann CONSUMED', 'bob CONSUMED', 'cat CONSUMED', 'dan ACTIVE'],
  'Of every drop.'
);
select is(
  array[pg_temp.stock_of('shoes'), pg_temp.stock_of('tickets'), pg_temp.stock_of('shirts')], array[7, 6, 7],
  'The stock was taken by the reserves and is not taken again.'
);
select is(
  (select array_agg(s.drop_id order by p.cmin::text::bigint) from sale s join inventory.purchases p on p.id = s.id),
  (select array_agg(s.drop_id order by s.drop_id) from sale s), 'The drops are served in the order of their ids.'
);
select results_eq(
  $$
    select n, status
    from api.purchase_batches(
      array[pg_temp.drop_id('tickets'), pg_temp.drop_id('shirts'), pg_temp.drop_id('shoes')],
      pg_temp.user_ids('dan', 'eve', 'bob'), array['key-3'])
  $$,
  $$values (1, 201), (2, 201), (3, 201)$$,
  'There may be fewer keys than requests.'
);
select bag_eq(
  $$
    select user_id, idempotency_key
    from inventory.purchases
    where drop_id in (select drop_id from request) and id not in (select id from sale)
  $$,
  $$values (pg_temp.user_id('dan'), 'key-3'), (pg_temp.user_id('eve'), null), (pg_temp.user_id('bob'), null)$$,
  'Requests beyond the array of keys have none.'
);
select is_empty(
  $$select * from api.purchase_batches(array[]::uuid[], array[]::uuid[], array[]::text[])$$, 'A batch of nothing answers nothing.'
);
select is_empty($$select * from api.purchase_batches(null, null, null)$$, 'Nor does one of less than nothing.');

-- Refusals and replays.

do $$
begin
  perform pg_temp.new_drop(name) from unnest(array['one', 'two', 'over']) as name;
  perform pg_temp.reserve('one', 'ann', 'bob', 'cat', 'dan');
  perform pg_temp.reserve('two', 'ann', 'bob', 'cat');
  perform pg_temp.reserve('over', 'ann', 'bob');
  perform pg_temp.run_out('one', 'cat');
  perform pg_temp.run_out('two', 'bob');
  perform api.purchase(pg_temp.drop_id('over'), pg_temp.user_id('ann'), 'old');
  perform api.update_drop(pg_temp.drop_id('over'), '{"status": "ended"}');
end
$$;
create temp table mixed on commit drop as
select * from pg_temp.purchase(
  'ann two a', 'ann one a', 'cat one a', 'ann over old', 'ann two a', 'bob two', 'nobody two', 'ann one a', 'ann nowhere',
  'ann one b', 'bob one', 'fay two', 'nobody nowhere', 'bob over', 'bob one', 'ann over new');
select results_eq(
  $$select n, status, code, replayed from mixed$$,
  $$
    values
      (1, 201, null, false), (2, 201, null, false), (3, 409, 'RESERVATION_EXPIRED', false), (4, 200, null, true),
      (5, 200, null, true), (6, 409, 'RESERVATION_EXPIRED', false), (7, 401, 'AUTH_REQUIRED', false), (8, 200, null, true),
      (9, 404, 'DROP_NOT_FOUND', false), (10, 409, 'NO_ACTIVE_RESERVATION', false), (11, 201, null, false),
      (12, 409, 'NO_ACTIVE_RESERVATION', false), (13, 401, 'AUTH_REQUIRED', false), (14, 201, null, false),
      (15, 409, 'NO_ACTIVE_RESERVATION', false), (16, 409, 'NO_ACTIVE_RESERVATION', false)
  $$,
  'Each is told what concerns him, of his drop; a key of one drop is another for another drop.'
);
select results_eq(
  $$select n, data::text from mixed where n in (5, 8) order by n$$,
  $$select case n when 1 then 5 else 8 end, data::text from mixed where n in (1, 2) order by 1$$,
  'A replay shows the purchase of its drop.'
);
select is_empty(
  $$
    select m.n
    from mixed m
    left join api.errors() e on e.code = m.code and e.status = m.status and e.message = m.message
    where m.code is not null and (e.code is null or m.data is not null)
  $$,
  'Every refusal has the status and the sentence of api.errors, and no data.'
);
select is(
  array[pg_temp.reservations_of('one'), array_append(pg_temp.reservations_of('two'), null)],
  array[
    array['ann CONSUMED', 'bob CONSUMED', 'cat EXPIRED', 'dan ACTIVE'],
    array['ann CONSUMED', 'bob EXPIRED', 'cat ACTIVE', null]],
  'The holds that ran out are EXPIRED, on whatever drop.'
);
select is(
  array[pg_temp.stock_of('one'), pg_temp.stock_of('two'), pg_temp.stock_of('over')], array[7, 8, 8],
  'Their units are back in the stock of their drops.'
);
select results_eq(
  $$
    select n, code
    from api.purchase_batches(
      array[null, pg_temp.drop_id('one'), pg_temp.drop_id('one')],
      pg_temp.user_ids('dan', 'dan') || array[null::uuid], null)
  $$,
  $$values (1, 'DROP_NOT_FOUND'), (2, null), (3, 'AUTH_REQUIRED')$$,
  'No drop is a drop that does not exist, no user one who does not; the neighbour is served.'
);

-- The same as drop by drop.

create temp table many on commit drop as
select
  row_number() over (order by md5(u || ' ' || d || ' ' || k))::integer as n,
  u as name,
  d as drop_name,
  nullif(k, '-') as key
from unnest(array['ann', 'bob', 'cat', 'dan', 'eve', 'nobody']) as u
cross join unnest(array['left', 'middle', 'right', 'nowhere']) as d
cross join unnest(array['-', 'x', 'y']) as k;
do $$
declare
  v_prefix text;
  v_name text;
begin
  foreach v_prefix in array array['all ', 'each '] loop
    foreach v_name in array array['left', 'middle', 'right'] loop
      perform pg_temp.new_drop(v_prefix || v_name);
      perform pg_temp.reserve(v_prefix || v_name, 'ann', 'bob', 'cat', 'dan');
    end loop;
    perform api.purchase(pg_temp.drop_id(v_prefix || 'left'), pg_temp.user_id('ann'), 'x');
    perform pg_temp.run_out(v_prefix || 'left', 'bob');
    perform pg_temp.run_out(v_prefix || 'right', 'ann');
    perform api.update_drop(pg_temp.drop_id(v_prefix || 'right'), '{"status": "ended"}');
  end loop;
end
$$;
create temp table all_at_once on commit drop as
select o.*
from api.purchase_batches(
  array(select pg_temp.drop_id('all ' || m.drop_name) from many m order by m.n),
  array(select pg_temp.user_id(m.name) from many m order by m.n),
  array(select m.key from many m order by m.n)) o;
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
cross join lateral api.purchase_batch(pg_temp.drop_id('each ' || of_drop.drop_name), of_drop.user_ids, of_drop.keys) o;
select results_eq(
  $$select n, status, code, message, replayed, data ->> 'user_id', data ->> 'status', data ->> 'createdAt' from all_at_once$$,
  $$
    select n, status, code, message, replayed, data ->> 'user_id', data ->> 'status', data ->> 'createdAt'
    from drop_by_drop
    order by n
  $$,
  'The outcomes are those of purchase_batch called drop by drop.'
);
select results_eq(
  $$
    select pg_temp.stock_of('all ' || name), pg_temp.reservations_of('all ' || name)
    from unnest(array['left', 'middle', 'right']) as name
  $$,
  $$
    select pg_temp.stock_of('each ' || name), pg_temp.reservations_of('each ' || name)
    from unnest(array['left', 'middle', 'right']) as name
  $$,
  'And so is what it leaves behind.'
);

-- Announcements.

do $$
begin
  perform pg_temp.new_drop(name) from unnest(array['red', 'blue', 'green']) as name;
  perform pg_temp.reserve('red', 'ann', 'bob', 'cat');
  perform pg_temp.reserve('blue', 'ann', 'bob');
  perform pg_temp.reserve('green', 'ann');
  perform pg_temp.run_out('blue', 'bob');
end
$$;
select is(
  (select array_agg(format('%s %s', split_part(e, ' ', 1), substring(e from '"dropId":"(\w+)"')) order by e)
    from unnest(pg_temp.announced($$
      select pg_temp.purchase('ann blue', 'bob red', 'bob blue', 'ann red', 'fay green', 'nobody red', 'cat red', 'ann nowhere')
    $$)) as e),
  array[
    'ACTIVITY_UPDATED blue', 'ACTIVITY_UPDATED red', 'PURCHASE_COMPLETED blue', 'PURCHASE_COMPLETED red',
    'PURCHASE_COMPLETED red', 'PURCHASE_COMPLETED red', 'RESERVATION_EXPIRED blue', 'STOCK_UPDATED blue'],
  'Each drop announces what happened to it: every purchase, and once who bought last and what is left.'
);

-- A call that cannot be served, and the caller's settings.

select throws_ok(
  $$select pg_temp.purchase('ann green', 'ann red ' || repeat('k', 256))$$, 'PT400', 'VALIDATION_ERROR',
  'A key that is no key is refused, and nothing is done for the others either.'
);
set local lock_timeout = '12345ms';
select is(
  (select array_agg(current_setting('lock_timeout') || ' ' || o.status) from pg_temp.purchase('ann green', 'eve red') o)
    || current_setting('lock_timeout'),
  array['12345ms 201', '12345ms 409', '12345ms'], 'The caller''s lock_timeout is what it was.'
);

select is_empty(
  $$
    select a.* from api.audit() a join inventory.drops d on d.id = a.drop_id where d.created_by = pg_temp.user_id('seller')
  $$,
  'No unit was lost or made up on the way.'
);

select * from finish();
rollback;
