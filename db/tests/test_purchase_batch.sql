-- api.purchase_batch sells holds on any drops in the order of the requests: one outcome each, no hold twice or too late.
begin;
select plan(59);

-- Requests on one drop, in this order; beyond the array of keys there are none.
create function pg_temp.requests(p_drop_id uuid, p_user_ids uuid[], p_keys text[] default null)
returns api.purchase_request[] language sql stable as $$
  select array_agg(row(p_drop_id, q.user_id, p_keys[q.n], null)::api.purchase_request order by q.n)
  from unnest(p_user_ids) with ordinality as q (user_id, n)
$$;

select pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan', 'eve', 'fay');

do $$
begin
  perform api.create_drop(name, 10, 10, pg_temp.user_id('seller'), now() - interval '1 hour')
  from unnest(array['shoes', 'twice', 'replays', 'due', 'all due', 'over', 'cancelled']) as name;
end
$$;

-- Outcomes.

do $$
begin
  perform pg_temp.reserve_all('shoes', 'ann', 'bob', 'cat', 'dan', 'eve');
  update inventory.reservations set updated_at = now() - interval '1 day' where drop_id = pg_temp.drop_id('shoes');
end
$$;
create temp table outcome on commit drop as
select row_number() over () as place, o.*
from api.purchase_batch(
  pg_temp.requests(pg_temp.drop_id('shoes'), pg_temp.user_ids('cat', 'fay', 'ann', 'nobody'),
    array[null, 'key-1', 'key-1', 'key-1'])) o;
create temp table sale on commit drop as
select o.n, p.* from outcome o cross join json_populate_record(null::api.purchase_row, o.data) p where o.code is null;

select results_eq(
  $$select n, status, code, message, replayed from outcome order by place$$,
  $$
    values
      (1, 201, null, null, false),
      (2, 409, 'NO_ACTIVE_RESERVATION', 'You have no active reservation that this would buy. Reserve first.', false),
      (3, 201, null, null, false),
      (4, 401, 'AUTH_REQUIRED', 'No user has this id. Identify yourself as an existing user.', false)
  $$,
  'Every request has one outcome, in the order of the requests, with status, code and sentence.'
);
select is((select count(*) from outcome where code is not null and data is not null), 0::bigint, 'A refusal has no data.');
select is(
  (select array_agg(key) from outcome, json_object_keys(data) as key where n = 1),
  array['id', 'drop_id', 'variant_id', 'reservation_id', 'user_id', 'qty', 'unit_price', 'currency', 'amount', 'status',
    'refunded_amount', 'refunded_at', 'createdAt', 'updatedAt', 'refunded_qty', 'payment_id'],
  'The data of a purchase has the names of the wire.'
);
select results_eq(
  $$select s.n, s.drop_id, s.user_id, r.user_id, s.qty, s.status, s."createdAt", s."updatedAt"
    from sale s join inventory.reservations r on r.id = s.reservation_id and r.drop_id = s.drop_id
    order by s.n$$,
  $$
    values
      (1, pg_temp.drop_id('shoes'), pg_temp.user_id('cat'), pg_temp.user_id('cat'), 1, 'paid', now(), now()),
      (3, pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), pg_temp.user_id('ann'), 1, 'paid', now(), now())
  $$,
  'Each purchase is of one unit, paid, from the reservation of its user.'
);
select results_eq(
  $$
    select p.id, p.drop_id, p.reservation_id, p.user_id, p.qty, p.status, p.created_at, p.updated_at, p.idempotency_key
    from inventory.purchases p
    where p.drop_id = pg_temp.drop_id('shoes')
    order by p.id
  $$,
  $$
    select id, drop_id, reservation_id, user_id, qty, status, "createdAt", "updatedAt", case n when 3 then 'key-1' end
    from sale
    order by id
  $$,
  'What comes back is what is stored, each with its own key or none.'
);
select is(
  pg_temp.statuses_on('shoes'), array['ann CONSUMED', 'bob ACTIVE', 'cat CONSUMED', 'dan ACTIVE', 'eve ACTIVE'],
  'Exactly their reservations are CONSUMED.'
);
select is(
  (select count(*) from inventory.reservations where drop_id = pg_temp.drop_id('shoes') and updated_at = now()), 2::bigint,
  'Exactly their reservations say that they changed.'
);
select is(pg_temp.stock_of('shoes'), 5, 'The stock was taken by the reserve and is not taken again.');

select is(
  pg_temp.purchase_all('shoes', 'bob', 'ann'), array[null, 'NO_ACTIVE_RESERVATION'], 'A user who has bought holds nothing any more.'
);
select is_empty($$select * from api.purchase_batch('{}')$$, 'A batch of nothing answers nothing.');
select is_empty($$select * from api.purchase_batch(null)$$, 'A batch that is null answers nothing.');

-- One user, several requests.

do $$ begin perform pg_temp.reserve_all('twice', 'ann', 'bob', 'cat'); end $$;
create temp table same_key on commit drop as
select * from api.purchase_batch(
  pg_temp.requests(pg_temp.drop_id('twice'), pg_temp.user_ids('ann', 'ann', 'bob', 'ann', 'ann', 'cat', 'cat', 'bob'),
    array['a', 'a', 'a', 'b', 'a', null, null, null]));
select results_eq(
  $$select n, status, code, replayed from same_key$$,
  $$
    values
      (1, 201, null, false), (2, 200, null, true), (3, 201, null, false), (4, 409, 'NO_ACTIVE_RESERVATION', false),
      (5, 200, null, true), (6, 201, null, false), (7, 409, 'NO_ACTIVE_RESERVATION', false),
      (8, 409, 'NO_ACTIVE_RESERVATION', false)
  $$,
  'A key repeated in a batch is a replay; another key, or none, of the same user finds the hold sold.'
);
select is(
  (select array_agg(data::text order by n) from same_key where replayed),
  (select array[data::text, data::text] from same_key where n = 1), 'The replay shows the purchase that the first request got.'
);
select is(
  (select array_agg(data ->> 'user_id' order by n) from same_key where status = 201),
  pg_temp.user_ids('ann', 'bob', 'cat')::text[],
  'The same key of another user is a purchase of his own.'
);
select is(
  (select count(*) from inventory.purchases where drop_id = pg_temp.drop_id('twice')), 3::bigint,
  'Three holds are three purchases.'
);

do $$
begin
  perform pg_temp.reserve_all('replays', 'ann', 'bob');
  perform api.purchase_batch(pg_temp.requests(pg_temp.drop_id('replays'), pg_temp.user_ids('ann'), array['old']));
  perform pg_temp.reserve_all('replays', 'ann');
end
$$;
create temp table first_sale on commit drop as
select p.* from inventory.purchases p where p.drop_id = pg_temp.drop_id('replays');
select results_eq(
  $$
    select n, status, replayed, (data ->> 'id')::uuid, (data ->> 'reservation_id')::uuid
    from api.purchase_batch(pg_temp.requests(pg_temp.drop_id('replays'), pg_temp.user_ids('ann', 'ann'), array['old', 'old']))
  $$,
  $$select n, 200, true, id, reservation_id from first_sale, generate_series(1, 2) as n$$,
  'A key of an earlier batch is a replay, each time.'
);
select is(
  pg_temp.statuses_on('replays'), array['ann ACTIVE', 'ann CONSUMED', 'bob ACTIVE'],
  'A replay does not consume what the user holds since.'
);
do $$ begin perform api.refund_purchase((select id from first_sale)); end $$;
create temp table old_and_new on commit drop as
select * from api.purchase_batch(
  pg_temp.requests(pg_temp.drop_id('replays'), pg_temp.user_ids('ann', 'ann', 'ann', 'ann', 'bob'),
    array['old', 'new', 'old', 'new', 'old']));
select results_eq(
  $$select n, status, replayed, data ->> 'status' from old_and_new$$,
  $$
    values
      (1, 200, true, 'refunded'), (2, 201, false, 'paid'), (3, 200, true, 'refunded'), (4, 200, true, 'paid'),
      (5, 201, false, 'paid')
  $$,
  'The old key shows the purchase as it is now, and a new key in the same batch sells the new hold.'
);
select results_eq(
  $$select (data ->> 'id')::uuid from old_and_new where n in (1, 3)$$, $$select id from first_sale, generate_series(1, 2)$$,
  'The old key shows the old purchase.'
);
select is(
  (select array_agg(distinct data ->> 'id') from old_and_new where n in (2, 4)),
  (select array_agg(p.id::text) from inventory.purchases p
    where p.drop_id = pg_temp.drop_id('replays') and p.user_id = pg_temp.user_id('ann') and p.idempotency_key = 'new'),
  'The new key shows the one new purchase.'
);
do $$
begin
  perform pg_temp.reserve_all('over', 'ann');
end
$$;
select is(
  (select replayed from api.purchase_batch(
    pg_temp.requests(pg_temp.drop_id('over'), pg_temp.user_ids('ann'), array['old']))), false,
  'The same key on another drop is another purchase.'
);

-- A user who holds several sizes. The requests behave as if they came one after the other.

create temp table meant on commit drop as
select v.n, v.keys, v.sizes, v.expected, v.what
from (values
  (1, '{a, a}'::text[], '{M, null}'::text[], '{201, 200}'::integer[], 'A key is repeated without the hold that was named.'),
  (2, '{a, a}', '{M, S}', '{201, 422}', 'A key is repeated for another hold.'),
  (3, '{a, a}', '{null, S}', '{409, 201}', 'The key of a request that bought nothing is free.'),
  (4, '{a, b}', '{M, null}', '{201, 201}', 'The second request means the one hold that the first leaves.'),
  (5, '{null, null, null}', '{S, null, null}', '{201, 201, 409}', 'So it is without keys, until nothing is left.'),
  (6, '{null, a, a, b}', '{null, M, S, null}', '{409, 201, 422, 201}', 'A refused request leaves all holds to the next.'),
  (7, '{a, b}', '{M, S}', '{201, 201}', 'Two holds are named with two keys.')
) as v (n, keys, sizes, expected, what);
create function pg_temp.bought_by(p_n integer, p_keys text[], p_sizes text[]) returns integer[] language plpgsql as $$
declare
  v_drop_id uuid;
begin
  perform pg_temp.make_sizes('sizes ' || p_n);
  v_drop_id := pg_temp.drop_id('sizes ' || p_n);
  perform api.reserve(v_drop_id, u.id, null, 600, pg_temp.variant_id('sizes ' || p_n, size))
  from unnest(pg_temp.user_ids('ann', 'bob')) u (id), unnest(array['S', 'M']) size;
  return array(
    select o.status
    from api.purchase_batch(
      (
        select array_agg(row(
          v_drop_id, pg_temp.user_id('ann'), q.key,
          (select h.id from inventory.reservations h
            where h.user_id = pg_temp.user_id('ann') and h.variant_id = pg_temp.variant_id('sizes ' || p_n, q.size)))::api.purchase_request
          order by q.n)
        from unnest(p_keys, p_sizes) with ordinality q (key, size, n)
      ) || row(v_drop_id, pg_temp.user_id('bob'), null, null)::api.purchase_request) o
    order by o.n
  );
end
$$;
select is(pg_temp.bought_by(n, keys, sizes), expected || 409, what) from meant order by n; -- the last one is bob's

-- Drops and users that cannot be.

select results_eq(
  format(
    'select n, status, code
     from api.purchase_batch(pg_temp.requests(%L, pg_temp.user_ids(''ann'', ''nobody'', ''ann''), array[''a'', ''a'', ''a'']))',
    v.id),
  $$values (1, 404, 'DROP_NOT_FOUND'), (2, 401, 'AUTH_REQUIRED'), (3, 404, 'DROP_NOT_FOUND')$$,
  v.description
)
from (values
  (gen_random_uuid(), 'Every request on a drop that does not exist is refused; an unknown user learns nothing about drops.'),
  (null, 'No drop is a drop that does not exist.')
) as v (id, description);
do $$ begin perform pg_temp.reserve_all('over', 'bob'); end $$;
select results_eq(
  $$select n, code from api.purchase_batch(pg_temp.requests(pg_temp.drop_id('over'), array[null, pg_temp.user_id('bob')]))$$,
  $$values (1, 'AUTH_REQUIRED'), (2, null)$$,
  'A request without a user is refused, its neighbour is served.'
);

-- Holds that have run out.

do $$
begin
  perform pg_temp.reserve_all('due', 'ann', 'bob', 'cat', 'dan', 'eve');
  perform pg_temp.let_run_out('due', 'ann');
  perform pg_temp.let_run_out('due', 'bob', now() + interval '1 microsecond');
  perform pg_temp.let_run_out('due', 'dan', now() + interval '-1 hour');
  perform pg_temp.let_run_out('due', 'eve');
  update inventory.drops set updated_at = now() - interval '1 day' where id = pg_temp.drop_id('due');
  update inventory.reservations set updated_at = now() - interval '1 day' where drop_id = pg_temp.drop_id('due');
end
$$;
create temp table due on commit drop as
select * from api.purchase_batch(
  pg_temp.requests(pg_temp.drop_id('due'), pg_temp.user_ids('ann', 'bob', 'ann', 'cat', 'fay', 'dan'),
    array['a', 'a', 'a', 'a', 'a', 'a']));
select results_eq(
  $$select n, status, code, message, data is null from due$$,
  $$
    values
      (1, 409, 'RESERVATION_EXPIRED', 'Your reservation ran out and its units went back to stock. Reserve again.', true),
      (2, 201, null, null, false),
      (3, 409, 'RESERVATION_EXPIRED', 'Your reservation ran out and its units went back to stock. Reserve again.', true),
      (4, 201, null, null, false),
      (5, 409, 'NO_ACTIVE_RESERVATION', 'You have no active reservation that this would buy. Reserve first.', true),
      (6, 409, 'RESERVATION_EXPIRED', 'Your reservation ran out and its units went back to stock. Reserve again.', true)
  $$,
  'A hold that runs out at this moment is not sold, one with a microsecond left is.'
);
select is(
  pg_temp.statuses_on('due'), array['ann EXPIRED', 'bob CONSUMED', 'cat CONSUMED', 'dan EXPIRED', 'eve ACTIVE'],
  'The holds that ran out are EXPIRED; one that nobody asked for is left to the sweep.'
);
select is(
  (select count(*) from inventory.reservations where drop_id = pg_temp.drop_id('due') and updated_at = now()), 4::bigint,
  'They say that they changed.'
);
select is(pg_temp.stock_of('due'), 7, 'Their units are back in stock.');
select is((select updated_at from inventory.drops where id = pg_temp.drop_id('due')), now(), 'The drop says that it changed.');
select bag_eq(
  $$select user_id from inventory.purchases where drop_id = pg_temp.drop_id('due')$$, pg_temp.user_ids('bob', 'cat'),
  'A hold that was given back is not bought.'
);
do $$ begin perform pg_temp.reserve_all('due', 'ann'); end $$;
select results_eq(
  $$
    select status, code
    from api.purchase_batch(pg_temp.requests(pg_temp.drop_id('due'), pg_temp.user_ids('ann'), array['a']))$$, $$values (201, null)
  $$,
  'A key that was refused is not used up: after a new reserve it purchases.'
);

do $$
begin
  perform pg_temp.reserve_all('all due', 'ann', 'bob');
  perform pg_temp.let_run_out('all due', name) from unnest(array['ann', 'bob']) as name;
end
$$;
select is(
  pg_temp.purchase_all('all due', 'ann', 'bob'), array['RESERVATION_EXPIRED', 'RESERVATION_EXPIRED'],
  'A batch may expire all it was to sell.'
);
select is(pg_temp.stock_of('all due'), 10, 'Then all units are back in stock.');

-- The end of a drop.

do $$
begin
  perform pg_temp.reserve_all('over', 'cat');
  perform pg_temp.reserve_all('cancelled', 'cat');
  perform api.update_drop(pg_temp.drop_id('over'), '{"status": "ended"}');
  perform api.update_drop(pg_temp.drop_id('cancelled'), '{"status": "cancelled"}');
end
$$;
select is(pg_temp.purchase_all('over', 'cat'), array[null]::text[], 'Who holds a unit when the drop ends can have it.');
select is(
  pg_temp.purchase_all('cancelled', 'cat'), array['DROP_NOT_ACTIVE'],
  'Who held a unit when the drop was cancelled cannot, and is told that it is not on sale.'
);

-- Several drops.

-- Requests "user drop" or "user drop key".
create function pg_temp.mixed(variadic p_requests text[]) returns api.purchase_request[] language sql stable as $$
  select array_agg(
    row(pg_temp.drop_id(split_part(r, ' ', 2)), pg_temp.user_id(split_part(r, ' ', 1)), nullif(split_part(r, ' ', 3), ''), null)
      ::api.purchase_request
    order by n)
  from unnest(p_requests) with ordinality as u (r, n)
$$;

do $$
begin
  perform pg_temp.make_drop(name) from unnest(array['hats', 'tickets', 'shirts']) as name;
  perform pg_temp.reserve_all('hats', 'ann', 'bob', 'cat');
  perform pg_temp.reserve_all('tickets', 'ann', 'bob', 'cat', 'dan');
  perform pg_temp.reserve_all('shirts', 'ann', 'cat', 'eve');
end
$$;
create temp table request on commit drop as
select r.ordinality::integer as n, r.drop_id, r.user_id, r.idempotency_key
from unnest(pg_temp.mixed(
  'cat tickets', 'ann hats key-1', 'cat shirts', 'fay hats', 'ann tickets key-1', 'ann shirts key-2', 'cat hats', 'bob tickets'))
  with ordinality r;
create temp table mixed_outcome on commit drop as
select row_number() over () as place, o.*
from api.purchase_batch(
  (select array_agg(row(r.drop_id, r.user_id, r.idempotency_key, null)::api.purchase_request order by r.n) from request r)) o;
select results_eq(
  $$select place::integer, n, status, code, replayed, data is null from mixed_outcome order by place$$,
  $$
    select n, n, case n when 4 then 409 else 201 end, case n when 4 then 'NO_ACTIVE_RESERVATION' end, false, n = 4
    from generate_series(1, 8) as n
  $$,
  'Every request has one outcome, in the order of the requests, however the drops are mixed.'
);
select results_eq(
  $$
    select o.n, p.drop_id, p.user_id, r.user_id, p.qty, p.status, p.created_at, p.idempotency_key
    from mixed_outcome o
    join inventory.purchases p on p.id = (o.data ->> 'id')::uuid
    join inventory.reservations r on r.id = p.reservation_id and r.drop_id = p.drop_id
    order by o.n
  $$,
  $$select n, drop_id, user_id, user_id, 1, 'paid', now(), idempotency_key from request where n <> 4 order by n$$,
  'Each purchase is of one unit of its drop, paid, from the reservation of its user, with its own key or none.'
);
select is(
  array[pg_temp.statuses_on('hats'), pg_temp.statuses_on('shirts')],
  array[array['ann CONSUMED', 'bob ACTIVE', 'cat CONSUMED'], array['ann CONSUMED', 'cat CONSUMED', 'eve ACTIVE']],
  'Exactly their reservations are CONSUMED.'
);
select is(
  array[pg_temp.stock_of('hats'), pg_temp.stock_of('tickets'), pg_temp.stock_of('shirts')], array[7, 6, 7],
  'The stock was taken by the reserves and is not taken again.'
);
select is(
  (select array_agg(o.n order by p.id) from mixed_outcome o join inventory.purchases p on p.id = (o.data ->> 'id')::uuid),
  (select array_agg(o.n order by o.n) from mixed_outcome o join inventory.purchases p on p.id = (o.data ->> 'id')::uuid),
  'The sales are made in the order of the requests, whatever their drops.'
);

do $$
begin
  perform pg_temp.make_drop(name) from unnest(array['one', 'two', 'ended']) as name;
  perform pg_temp.reserve_all('one', 'ann', 'bob', 'cat', 'dan');
  perform pg_temp.reserve_all('two', 'ann', 'bob', 'cat');
  perform pg_temp.reserve_all('ended', 'ann', 'bob');
  perform pg_temp.let_run_out('one', 'cat');
  perform pg_temp.let_run_out('two', 'bob');
  perform api.purchase(pg_temp.drop_id('ended'), pg_temp.user_id('ann'), 'old');
  perform api.update_drop(pg_temp.drop_id('ended'), '{"status": "ended"}');
end
$$;
create temp table mixed on commit drop as
select * from api.purchase_batch(pg_temp.mixed(
  'ann two a', 'ann one a', 'cat one a', 'ann ended old', 'ann two a', 'bob two', 'nobody two', 'ann one a', 'ann nowhere',
  'ann one b', 'bob one', 'fay two', 'nobody nowhere', 'bob ended', 'bob one', 'ann ended new'));
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
  array[pg_temp.statuses_on('one'), array_append(pg_temp.statuses_on('two'), null)],
  array[
    array['ann CONSUMED', 'bob CONSUMED', 'cat EXPIRED', 'dan ACTIVE'],
    array['ann CONSUMED', 'bob EXPIRED', 'cat ACTIVE', null]],
  'The holds that ran out are EXPIRED, on whatever drop.'
);
select is(
  array[pg_temp.stock_of('one'), pg_temp.stock_of('two'), pg_temp.stock_of('ended')], array[7, 8, 8],
  'Their units are back in the stock of their drops.'
);
select results_eq(
  $$
    select n, code
    from api.purchase_batch(array[
      row(null, pg_temp.user_id('dan'), null, null), null, row(pg_temp.drop_id('one'), null, null, null),
      row(pg_temp.drop_id('one'), pg_temp.user_id('dan'), null, null)]::api.purchase_request[])
  $$,
  $$values (1, 'DROP_NOT_FOUND'), (2, 'AUTH_REQUIRED'), (3, 'AUTH_REQUIRED'), (4, null)$$,
  'A request without a drop, without anything or without a user is refused; the neighbour is served.'
);

-- All drops in one call, and the same requests in a call for each drop.

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
      perform pg_temp.make_drop(v_prefix || v_name);
      perform pg_temp.reserve_all(v_prefix || v_name, 'ann', 'bob', 'cat', 'dan');
    end loop;
    perform api.purchase(pg_temp.drop_id(v_prefix || 'left'), pg_temp.user_id('ann'), 'x');
    perform pg_temp.let_run_out(v_prefix || 'left', 'bob');
    perform pg_temp.let_run_out(v_prefix || 'right', 'ann');
    perform api.update_drop(pg_temp.drop_id(v_prefix || 'right'), '{"status": "ended"}');
  end loop;
end
$$;
create temp table all_at_once on commit drop as
select o.*
from api.purchase_batch(
  array(
    select row(pg_temp.drop_id('all ' || m.drop_name), pg_temp.user_id(m.name),
      m.key, null)::api.purchase_request from many m order by m.n
  )) o;
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
cross join lateral api.purchase_batch(
  pg_temp.requests(pg_temp.drop_id('each ' || of_drop.drop_name), of_drop.user_ids, of_drop.keys)) o;
select results_eq(
  $$select n, status, code, message, replayed, data ->> 'user_id', data ->> 'status', data ->> 'createdAt' from all_at_once$$,
  $$
    select n, status, code, message, replayed, data ->> 'user_id', data ->> 'status', data ->> 'createdAt'
    from drop_by_drop
    order by n
  $$,
  'The outcomes are those of a call for each drop.'
);
select results_eq(
  $$
    select pg_temp.stock_of('all ' || name), pg_temp.statuses_on('all ' || name)
    from unnest(array['left', 'middle', 'right']) as name
  $$,
  $$
    select pg_temp.stock_of('each ' || name), pg_temp.statuses_on('each ' || name)
    from unnest(array['left', 'middle', 'right']) as name
  $$,
  'So is what the calls leave behind.'
);

-- Announcements.

do $$
begin
  perform pg_temp.make_drop(name) from unnest(array['red', 'blue', 'green']) as name;
  perform pg_temp.reserve_all('red', 'ann', 'bob', 'cat');
  perform pg_temp.reserve_all('blue', 'ann', 'bob');
  perform pg_temp.reserve_all('green', 'ann');
  perform pg_temp.let_run_out('blue', 'bob');
end
$$;
select is(
  (select array_agg(format('%s %s', split_part(e, ' ', 1), substring(e from '"dropId":"(\w+)"')) order by e)
    from unnest(pg_temp.announced($$
      select api.purchase_batch(pg_temp.mixed('ann blue', 'bob red', 'bob blue', 'ann red', 'fay green', 'nobody red',
        'cat red', 'ann nowhere'))
    $$)) as e),
  array[
    'ACTIVITY_UPDATED blue', 'ACTIVITY_UPDATED red', 'PURCHASE_COMPLETED blue', 'PURCHASE_COMPLETED red',
    'PURCHASE_COMPLETED red', 'PURCHASE_COMPLETED red', 'RESERVATION_EXPIRED blue', 'STOCK_UPDATED blue'],
  'Each drop announces what happened to it: every purchase, and once who bought last and what is left.'
);

-- A call that cannot be served, and the caller's settings.

select throws_ok(
  $$select api.purchase_batch(pg_temp.mixed('ann green', 'ann red ' || repeat('k', 256)))$$, 'PT400', 'VALIDATION_ERROR',
  'A key that is no key is refused, and nothing is done for the others either.'
);
set local lock_timeout = '12345ms';
select is(
  (select array_agg(current_setting('lock_timeout') || ' ' || o.status) from api.purchase_batch(pg_temp.mixed('ann green',
    'eve red')) o)
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
