-- api.purchase_batch sells many holds on one drop in the order of the requests: one outcome each, no hold twice or too late.
begin;
select plan(37);

create function pg_temp.reserve(p_drop text, variadic p_users text[]) returns void language sql as $$
  select api.reserve_batch(pg_temp.drop_id(p_drop), pg_temp.user_ids(variadic p_users), null)
$$;

-- Purchase for these users, without keys; the codes they are answered, null for a purchase.
create function pg_temp.purchase(p_drop text, variadic p_users text[]) returns text[] language sql as $$
  select array_agg(o.code order by o.n)
  from api.purchase_batch(pg_temp.drop_id(p_drop), pg_temp.user_ids(variadic p_users), null) o
$$;

-- Let holds run out now, or later.
create function pg_temp.run_out(p_drop text, p_user text, p_in interval default '0') returns void language sql as $$
  update inventory.reservations r
  set expires_at = now() + p_in
  where r.drop_id = pg_temp.drop_id(p_drop) and r.user_id = pg_temp.user_id(p_user) and r.status = 'ACTIVE'
$$;

-- What became of all reservations on a drop, by user and status.
create function pg_temp.reservations_of(p_drop text) returns text[] language sql stable as $$
  select array_agg(u.name || ' ' || r.status order by u.name, r.status)
  from inventory.reservations r
  join unnest(array['ann', 'bob', 'cat', 'dan', 'eve', 'fay']) as u (name) on pg_temp.user_id(u.name) = r.user_id
  where r.drop_id = pg_temp.drop_id(p_drop)
$$;

do $$
begin
  perform api.ensure_user(pg_temp.user_id(name)) from unnest(array['seller', 'ann', 'bob', 'cat', 'dan', 'eve', 'fay']) as name;
  perform api.create_drop(name, 10, 10, pg_temp.user_id('seller'), now() - interval '1 hour')
  from unnest(array['shoes', 'twice', 'replays', 'due', 'all due', 'over', 'cancelled']) as name;
end
$$;

-- Outcomes.

do $$
begin
  perform pg_temp.reserve('shoes', 'ann', 'bob', 'cat', 'dan', 'eve');
  update inventory.reservations set updated_at = now() - interval '1 day' where drop_id = pg_temp.drop_id('shoes');
end
$$;
create temp table outcome on commit drop as
select row_number() over () as place, o.*
from api.purchase_batch(
  pg_temp.drop_id('shoes'), pg_temp.user_ids('cat', 'fay', 'ann', 'nobody'), array[null, 'key-1', 'key-1', 'key-1']) o;
create temp table sale on commit drop as
select o.n, p.* from outcome o cross join json_populate_record(null::api.purchase, o.data) p where o.code is null;

select results_eq(
  $$select n, status, code, message, replayed from outcome order by place$$,
  $$
    values
      (1, 201, null, null, false),
      (2, 409, 'NO_ACTIVE_RESERVATION', 'You hold no unit of this drop. Reserve one first.', false),
      (3, 201, null, null, false),
      (4, 401, 'AUTH_REQUIRED', 'No user has this id. Identify yourself as an existing user.', false)
  $$,
  'Every request has one outcome, in the order of the requests, with status, code and sentence.'
);
select is((select count(*) from outcome where code is not null and data is not null), 0::bigint, 'A refusal has no data.');
select is(
  (select array_agg(key) from outcome, json_object_keys(data) as key where n = 1),
  array['id', 'drop_id', 'reservation_id', 'user_id', 'qty', 'status', 'createdAt', 'updatedAt'],
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
  pg_temp.reservations_of('shoes'), array['ann CONSUMED', 'bob ACTIVE', 'cat CONSUMED', 'dan ACTIVE', 'eve ACTIVE'],
  'Exactly their reservations are CONSUMED.'
);
select is(
  (select count(*) from inventory.reservations where drop_id = pg_temp.drop_id('shoes') and updated_at = now()), 2::bigint,
  'Exactly their reservations say that they changed.'
);
select is(pg_temp.stock_of('shoes'), 5, 'The stock was taken by the reserve and is not taken again.');

select is(
  pg_temp.purchase('shoes', 'bob', 'ann'), array[null, 'NO_ACTIVE_RESERVATION'], 'Without an array of keys there are no keys.'
);
select results_eq(
  $$select n, status from api.purchase_batch(pg_temp.drop_id('shoes'), pg_temp.user_ids('eve', 'dan'), array['key-2'])$$,
  $$values (1, 201), (2, 201)$$,
  'There may be fewer keys than requests.'
);
select bag_eq(
  $$
    select user_id, idempotency_key
    from inventory.purchases
    where drop_id = pg_temp.drop_id('shoes') and user_id = any (pg_temp.user_ids('bob', 'dan', 'eve'))
  $$,
  $$values (pg_temp.user_id('bob'), null), (pg_temp.user_id('dan'), null), (pg_temp.user_id('eve'), 'key-2')$$,
  'Requests beyond the array of keys have none.'
);
select is_empty(
  $$select * from api.purchase_batch(pg_temp.drop_id('shoes'), array[]::uuid[], array[]::text[])$$,
  'A batch of nothing answers nothing.'
);

-- One user, several requests.

do $$ begin perform pg_temp.reserve('twice', 'ann', 'bob', 'cat'); end $$;
create temp table same_key on commit drop as
select * from api.purchase_batch(
  pg_temp.drop_id('twice'), pg_temp.user_ids('ann', 'ann', 'bob', 'ann', 'ann', 'cat', 'cat', 'bob'),
  array['a', 'a', 'a', 'b', 'a', null, null, null]);
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
  perform pg_temp.reserve('replays', 'ann', 'bob');
  perform api.purchase_batch(pg_temp.drop_id('replays'), pg_temp.user_ids('ann'), array['old']);
  perform pg_temp.reserve('replays', 'ann');
end
$$;
create temp table first_sale on commit drop as
select p.* from inventory.purchases p where p.drop_id = pg_temp.drop_id('replays');
select results_eq(
  $$
    select n, status, replayed, (data ->> 'id')::uuid, (data ->> 'reservation_id')::uuid
    from api.purchase_batch(pg_temp.drop_id('replays'), pg_temp.user_ids('ann', 'ann'), array['old', 'old'])
  $$,
  $$select n, 200, true, id, reservation_id from first_sale, generate_series(1, 2) as n$$,
  'A key of an earlier batch is a replay, each time.'
);
select is(
  pg_temp.reservations_of('replays'), array['ann ACTIVE', 'ann CONSUMED', 'bob ACTIVE'],
  'A replay does not consume what the user holds since.'
);
do $$ begin perform api.refund_purchase((select id from first_sale)); end $$;
create temp table old_and_new on commit drop as
select * from api.purchase_batch(
  pg_temp.drop_id('replays'), pg_temp.user_ids('ann', 'ann', 'ann', 'ann', 'bob'), array['old', 'new', 'old', 'new', 'old']);
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
  perform pg_temp.reserve('over', 'ann');
end
$$;
select is(
  (select replayed from api.purchase_batch(pg_temp.drop_id('over'), pg_temp.user_ids('ann'), array['old'])), false,
  'The same key on another drop is another purchase.'
);

-- Drops and users that cannot be.

select results_eq(
  format(
    'select n, status, code
     from api.purchase_batch(%L, pg_temp.user_ids(''ann'', ''nobody'', ''ann''), array[''a'', ''a'', ''a''])',
    v.id),
  $$values (1, 404, 'DROP_NOT_FOUND'), (2, 401, 'AUTH_REQUIRED'), (3, 404, 'DROP_NOT_FOUND')$$,
  v.description
)
from (values
  (gen_random_uuid(), 'Every request on a drop that does not exist is refused; an unknown user learns nothing about drops.'),
  (null, 'No drop is a drop that does not exist.')
) as v (id, description);
do $$ begin perform pg_temp.reserve('over', 'bob'); end $$;
select results_eq(
  $$select n, code from api.purchase_batch(pg_temp.drop_id('over'), array[null, pg_temp.user_id('bob')], null)$$,
  $$values (1, 'AUTH_REQUIRED'), (2, null)$$,
  'A request without a user is refused, its neighbour is served.'
);

-- Holds that have run out.

do $$
begin
  perform pg_temp.reserve('due', 'ann', 'bob', 'cat', 'dan', 'eve');
  perform pg_temp.run_out('due', 'ann');
  perform pg_temp.run_out('due', 'bob', '1 microsecond');
  perform pg_temp.run_out('due', 'dan', '-1 hour');
  perform pg_temp.run_out('due', 'eve');
  update inventory.drops set updated_at = now() - interval '1 day' where id = pg_temp.drop_id('due');
  update inventory.reservations set updated_at = now() - interval '1 day' where drop_id = pg_temp.drop_id('due');
end
$$;
create temp table due on commit drop as
select * from api.purchase_batch(
  pg_temp.drop_id('due'), pg_temp.user_ids('ann', 'bob', 'ann', 'cat', 'fay', 'dan'), array['a', 'a', 'a', 'a', 'a', 'a']);
select results_eq(
  $$select n, status, code, message, data is null from due$$,
  $$
    values
      (1, 409, 'RESERVATION_EXPIRED', 'Your reservation ran out and its unit went back to stock. Reserve again.', true),
      (2, 201, null, null, false),
      (3, 409, 'NO_ACTIVE_RESERVATION', 'You hold no unit of this drop. Reserve one first.', true),
      (4, 201, null, null, false),
      (5, 409, 'NO_ACTIVE_RESERVATION', 'You hold no unit of this drop. Reserve one first.', true),
      (6, 409, 'RESERVATION_EXPIRED', 'Your reservation ran out and its unit went back to stock. Reserve again.', true)
  $$,
  'A hold that runs out at this moment is not sold, one with a microsecond left is.'
);
select is(
  pg_temp.reservations_of('due'), array['ann EXPIRED', 'bob CONSUMED', 'cat CONSUMED', 'dan EXPIRED', 'eve ACTIVE'],
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
  'Nobody buys what he does not hold any more.'
);
do $$ begin perform pg_temp.reserve('due', 'ann'); end $$;
select results_eq(
  $$
    select status, code
    from api.purchase_batch(pg_temp.drop_id('due'), pg_temp.user_ids('ann'), array['a'])$$, $$values (201, null)
  $$,
  'A key that was refused is not used up: after a new reserve it purchases.'
);

do $$
begin
  perform pg_temp.reserve('all due', 'ann', 'bob');
  perform pg_temp.run_out('all due', name) from unnest(array['ann', 'bob']) as name;
end
$$;
select is(
  pg_temp.purchase('all due', 'ann', 'bob'), array['RESERVATION_EXPIRED', 'RESERVATION_EXPIRED'],
  'A batch may expire all it was to sell.'
);
select is(pg_temp.stock_of('all due'), 10, 'Then all units are back in stock.');

-- The end of a drop.

do $$
begin
  perform pg_temp.reserve('over', 'cat');
  perform pg_temp.reserve('cancelled', 'cat');
  perform api.update_drop(pg_temp.drop_id('over'), '{"status": "ended"}');
  perform api.update_drop(pg_temp.drop_id('cancelled'), '{"status": "cancelled"}');
end
$$;
select is(pg_temp.purchase('over', 'cat'), array[null]::text[], 'Who holds a unit when the drop ends can have it.');
select is(
  pg_temp.purchase('cancelled', 'cat'), array['NO_ACTIVE_RESERVATION'], 'Who held a unit when the drop was cancelled cannot.'
);

select is_empty(
  $$
    select a.* from api.audit() a join inventory.drops d on d.id = a.drop_id where d.created_by = pg_temp.user_id('seller')
  $$,
  'No unit was lost or made up on the way.'
);

select * from finish();
rollback;
