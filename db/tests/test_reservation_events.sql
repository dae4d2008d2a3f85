-- Holds are announced as stock that goes and comes back; those that ran out by name, too, whoever it was that noticed.
begin;
select plan(29);

create function pg_temp.new_drop(p_name text, p_stock integer) returns void language sql as $$
  select api.create_drop(p_name, 10, p_stock, pg_temp.user_id('seller'), now() - interval '1 hour')
$$;

-- Reserve for these users, without keys.
create function pg_temp.reserve(p_drop text, variadic p_users text[]) returns void language sql as $$
  select api.reserve_batch(pg_temp.drop_id(p_drop), pg_temp.user_ids(variadic p_users), null)
$$;

-- Let a hold be due.
create function pg_temp.run_out(p_drop text, p_user text) returns void language sql as $$
  update inventory.reservations r
  set expires_at = now()
  where r.drop_id = pg_temp.drop_id(p_drop) and r.user_id = pg_temp.user_id(p_user) and r.status = 'ACTIVE'
$$;

-- The id of what a user reserved on a drop.
create function pg_temp.hold_id(p_drop text, p_user text) returns uuid language sql stable as $$
  select r.id from inventory.reservations r where r.drop_id = pg_temp.drop_id(p_drop) and r.user_id = pg_temp.user_id(p_user)
$$;

create function pg_temp.stock(p_drop text, p_units integer) returns text language sql as $$
  select format('STOCK_UPDATED {"dropId":"%s","availableStock":%s}', p_drop, p_units)
$$;

create function pg_temp.expired(p_drop text, p_user text) returns text language sql as $$
  select format('RESERVATION_EXPIRED {"dropId":"%s","reservationId":"hold of %s"}', p_drop, p_user)
$$;

-- Holds that run out together are announced in no particular order, and so are drops: these of one drop, in one that is.
create function pg_temp.in_order(p_events text[], p_drop text) returns text[] language sql as $$
  select array_agg(e order by e) from unnest(p_events) as e where e like format('%%"%s"%%', p_drop)
$$;

do $$
begin
  perform pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan', 'eve');
  perform pg_temp.new_drop(name, 5) from unnest(array['shoes', 'tickets', 'sweep', 'other sweep', 'quiet']) as name;
  perform pg_temp.new_drop(name, 1) from unnest(array['one', 'one each']) as name;
end
$$;

-- Reserved and cancelled.

select is(
  pg_temp.announced($$select api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key')$$),
  array[pg_temp.stock('shoes', 4)], 'A reserve announces the stock that is left. Who holds a unit is nobody''s business.'
);
select is(
  pg_temp.announced($$select pg_temp.reserve('shoes', 'bob', 'cat', 'dan', 'eve')$$), array[pg_temp.stock('shoes', 0)],
  'A batch announces it once.'
);
select is(pg_temp.announced(v.call), '{}', v.description)
from (values
  ($$select pg_temp.reserve('shoes', 'ann')$$, 'A second hold that is refused is not announced.'),
  ($$select pg_temp.reserve('one each', 'nobody')$$, 'Nor is a stranger''s request.'),
  ($$select api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key')$$, 'Nor is a repeat.'),
  ($$select pg_temp.refusal('select api.reserve(pg_temp.drop_id(''shoes''), pg_temp.user_id(''ann''))')$$,
    'Nor is a refusal that is raised.'),
  ('select api.expire_reservations(1000000)', 'A sweep that finds nothing announces nothing.')
) as v (call, description);
select is(
  pg_temp.announced($$select api.cancel_reservation(pg_temp.hold_id('shoes', 'ann'), pg_temp.user_id('ann'))$$),
  array[pg_temp.stock('shoes', 1)], 'A cancel announces the stock that there is again; it is no expiry.'
);
select is(
  pg_temp.announced($$
    select api.cancel_batch(array[pg_temp.hold_id('shoes', 'ann')], array[pg_temp.user_id('ann')])
  $$),
  '{}', 'A second cancel announces nothing.'
);
select is(
  pg_temp.announced($$
    select api.cancel_batch(
      array(select pg_temp.hold_id('shoes', name) from unnest(array['bob', 'cat']) as name), pg_temp.user_ids('bob', 'cat'))
  $$),
  array[pg_temp.stock('shoes', 3)], 'A batch of cancels announces the stock once.'
);
select is(
  pg_temp.announced($$
    do $do$
    begin
      perform pg_temp.run_out('shoes', 'dan');
      perform api.cancel_batch(
        array(select pg_temp.hold_id('shoes', name) from unnest(array['dan', 'eve']) as name), pg_temp.user_ids('dan', 'eve'));
    end
    $do$
  $$),
  array[pg_temp.expired('shoes', 'dan'), pg_temp.stock('shoes', 5)],
  'Of two that are cancelled the one that had run out is announced as expired, before the stock of both.'
);

-- Run out.

do $$
begin
  perform pg_temp.reserve(name, 'ann', 'bob', 'cat') from unnest(array['sweep', 'other sweep', 'quiet']) as name;
  perform pg_temp.run_out('sweep', name) from unnest(array['ann', 'cat']) as name;
  perform pg_temp.run_out('other sweep', 'bob');
end
$$;
create temp table swept on commit drop as select pg_temp.announced('select api.expire_reservations(1000000)') as events;
select is(
  (select pg_temp.in_order(events, 'sweep') from swept),
  array[pg_temp.expired('sweep', 'ann'), pg_temp.expired('sweep', 'cat'), pg_temp.stock('sweep', 4)],
  'A sweep announces each hold that ran out and, once, the stock.'
);
select is(
  (select pg_temp.in_order(events, 'other sweep') from swept),
  array[pg_temp.expired('other sweep', 'bob'), pg_temp.stock('other sweep', 3)], 'It does so for every drop.'
);
select is((select cardinality(events) from swept), 5, 'And for no drop where nothing ran out.');
select ok(
  (select bool_and(events[n] not like 'RESERVATION%' or events[n + 1] is not null
      and substring(events[n] from '"dropId":"([^"]*)"') = substring(events[n + 1] from '"dropId":"([^"]*)"'))
    from swept, generate_subscripts(events, 1) as n),
  'What belongs to one drop comes together, its stock last.'
);
select is(pg_temp.announced('select api.expire_reservations(1000000)'), '{}', 'A second sweep has nothing to announce.');

do $$ begin perform pg_temp.reserve('one', 'ann'); perform pg_temp.run_out('one', 'ann'); end $$;
select is(
  pg_temp.announced($$select pg_temp.reserve('one', 'bob')$$), array[pg_temp.expired('one', 'ann'), pg_temp.stock('one', 0)],
  'A reserve that takes a unit back to hand it out announces the hold that ran out, and the stock, which came and went.'
);
do $$ begin perform pg_temp.reserve('one each', 'ann'); perform pg_temp.run_out('one each', 'ann'); end $$;
select is(
  pg_temp.announced($$select pg_temp.reserve('one each', 'ann')$$),
  array[pg_temp.expired('one each', 'ann'), pg_temp.stock('one each', 0)],
  'So does one that replaces the user''s own.'
);

do $$ begin perform pg_temp.reserve('tickets', 'ann', 'bob', 'cat'); perform pg_temp.run_out('tickets', 'bob'); end $$;
select is(
  pg_temp.announced($$
    select pg_temp.refusal('select api.purchase(pg_temp.drop_id(''tickets''), pg_temp.user_id(''bob''))')
  $$),
  '{}', 'A purchase that comes too late and raises takes its expiry back, so there is nothing to announce.'
);
select is(
  pg_temp.announced($$select api.purchase_batch(pg_temp.drop_id('tickets'), pg_temp.user_ids('bob'), null)$$),
  array[pg_temp.expired('tickets', 'bob'), pg_temp.stock('tickets', 3)],
  'One that answers instead commits and announces it.'
);
select is(
  pg_temp.announced($$select api.purchase_batch(pg_temp.drop_id('tickets'), pg_temp.user_ids('bob'), null)$$), '{}',
  'Asked again it announces nothing.'
);

-- Many at once.

create temp table crowd on commit drop as select pg_temp.user_id('crowd ' || n) as user_id from generate_series(1, 300) as n;
do $$
begin
  perform api.ensure_user(user_id) from crowd;
  perform pg_temp.new_drop('crowded', 300);
  perform api.reserve_batch(pg_temp.drop_id('crowded'), array(select user_id from crowd), null);
  update inventory.reservations set expires_at = now() where drop_id = pg_temp.drop_id('crowded');
end
$$;
create temp table crowded on commit drop as select pg_temp.announced('select api.expire_reservations(1000000)') as events;
select is(
  (select count(distinct e) filter (where e like 'RESERVATION_EXPIRED {"dropId":"crowded",%') from crowded, unnest(events) as e),
  300::bigint, 'Three hundred holds that run out together are announced each.'
);
select is((select events[301:] from crowded), array[pg_temp.stock('crowded', 300)], 'And the stock once, after them.');

-- By hand.

create temp table by_hand on commit drop as
select pg_temp.announced($$
  update inventory.reservations set status = 'EXPIRED'
  where drop_id in (pg_temp.drop_id('tickets'), pg_temp.drop_id('quiet')) and status = 'ACTIVE'
$$) as events;
select is(
  (select pg_temp.in_order(events, 'tickets') from by_hand),
  array[pg_temp.expired('tickets', 'ann'), pg_temp.expired('tickets', 'cat')],
  'One statement that lets holds of two drops expire announces those of the one'
);
select is(
  (select pg_temp.in_order(events, 'quiet') from by_hand),
  array[pg_temp.expired('quiet', 'ann'), pg_temp.expired('quiet', 'bob'), pg_temp.expired('quiet', 'cat')],
  'and those of the other; it moved no stock.'
);
select is(pg_temp.announced(v.statement), '{}', v.description)
from (values
  ($$update inventory.reservations set updated_at = now() where drop_id = pg_temp.drop_id('quiet')$$,
    'What has expired does not expire again when it is touched.'),
  ($$update inventory.reservations set status = 'CANCELLED' where drop_id = pg_temp.drop_id('quiet')$$,
    'A status that is not EXPIRED is not announced.'),
  ($$update inventory.reservations set status = 'EXPIRED' where false$$, 'A statement that changes no row announces nothing.'),
  ($$
    insert into inventory.reservations (drop_id, user_id, status, expires_at)
    select pg_temp.drop_id('quiet'), pg_temp.user_id('dan'), status, now() from unnest(array['ACTIVE', 'EXPIRED']) as status
  $$, 'A reservation that is put in is not announced, whatever its status.')
) as v (statement, description);

select * from finish();
rollback;
