-- Holds are announced as stock that goes and comes back; those that ran out by name as well, no matter which call found them due.
begin;
select plan(28);

-- Holds that run out together are announced in no particular order, and so are drops: these of one drop, in one that is.
create function pg_temp.in_order(p_events text[], p_drop text) returns text[] language sql as $$
  select array_agg(e order by e) from unnest(p_events) as e where e like format('%%"%s"%%', p_drop)
$$;

create function pg_temp.cancel(p_drop text, p_user text) returns void language sql as $$
  select api.cancel_reservation(pg_temp.hold_id(p_drop, p_user), pg_temp.user_id(p_user))
$$;

select pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan', 'eve');
select pg_temp.make_drop(name, 5) from unnest(array['shoes', 'tickets', 'sweep', 'other sweep', 'quiet']) as name;
select pg_temp.make_drop(name, 1) from unnest(array['one', 'one each']) as name;
select pg_temp.hold('tickets', 'ann', 'bob', 'cat');
select pg_temp.let_run_out('tickets', 'bob');

-- Each statement is a transaction of its own.
select is(pg_temp.announced(v.statement), v.events, v.description)
from (values
  -- Reserved and cancelled.
  (1, $$select api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key')$$, array[pg_temp.stock_updated('shoes', 4)],
    'A reserve announces the stock that is left. Who holds a unit stays private.'),
  (2, $$select pg_temp.reserve_all('shoes', 'bob', 'cat', 'dan', 'eve')$$, array[pg_temp.stock_updated('shoes', 0)],
    'A batch announces it once.'),
  (3, $$select pg_temp.reserve_all('shoes', 'ann')$$, '{}', 'A second hold that is refused is not announced.'),
  (4, $$select pg_temp.reserve_all('one each', 'nobody')$$, '{}', 'Nor is an unknown user''s request.'),
  (5, $$select api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key')$$, '{}', 'Nor is a repeat.'),
  (6, $$select pg_temp.refusal('select pg_temp.hold(''shoes'', ''ann'')')$$, '{}', 'Nor is a refusal that is raised.'),
  (7, $$select pg_temp.cancel('shoes', 'ann')$$, array[pg_temp.stock_updated('shoes', 1)],
    'A cancel announces the stock that there is again; it is no expiry.'),
  (8, $$select pg_temp.cancel_all('shoes', 'ann')$$, '{}', 'A second cancel announces nothing.'),
  (9, $$select pg_temp.cancel_all('shoes', 'bob', 'cat')$$, array[pg_temp.stock_updated('shoes', 3)],
    'A batch of cancels announces the stock once.'),
  (10, $$select pg_temp.let_run_out('shoes', 'dan'); select pg_temp.cancel_all('shoes', 'dan', 'eve')$$,
    array[pg_temp.reservation_expired('shoes', 'dan'), pg_temp.stock_updated('shoes', 5)],
    'Of two that are cancelled the one that had run out is announced as expired, before the stock of both.'),
  -- Run out.
  (11, $$select pg_temp.hold('one', 'ann'); select pg_temp.let_run_out('one', 'ann')$$, array[pg_temp.stock_updated('one', 0)],
    'A hold that runs out is not announced before a call notices it.'),
  (12, $$select pg_temp.hold('one', 'bob')$$, array[pg_temp.reservation_expired('one', 'ann'), pg_temp.stock_updated('one', 0)],
    'A reserve that takes a unit back to hand it out announces the hold that ran out, and the stock, which came and went.'),
  (13, $$select pg_temp.let_run_out('one', 'bob'); select pg_temp.hold('one', 'bob')$$,
    array[pg_temp.reservation_expired('one', 'bob'), pg_temp.stock_updated('one', 0)], 'So does one that replaces an own hold.'),
  (14, $$select pg_temp.refusal('select api.purchase(pg_temp.drop_id(''tickets''), pg_temp.user_id(''bob''))')$$, '{}',
    'A purchase that comes too late and raises takes its expiry back, so there is nothing to announce.'),
  (15, $$select pg_temp.purchase_all('tickets', 'bob')$$,
    array[pg_temp.reservation_expired('tickets', 'bob'), pg_temp.stock_updated('tickets', 3)],
    'One that answers instead commits and announces it.'),
  (16, $$select pg_temp.purchase_all('tickets', 'bob')$$, '{}', 'Asked again it announces nothing.'),
  (17, 'select api.expire_reservations(1000000)', '{}', 'A sweep that finds nothing announces nothing.')
) as v (n, statement, events, description)
order by v.n;

select pg_temp.hold(name, 'ann', 'bob', 'cat') from unnest(array['sweep', 'other sweep', 'quiet']) as name;
select pg_temp.let_run_out('sweep', name) from unnest(array['ann', 'cat']) as name;
select pg_temp.let_run_out('other sweep', 'bob');
create temp table swept on commit drop as select pg_temp.announced('select api.expire_reservations(1000000)') as events;
select is((select pg_temp.in_order(events, v.drop_name) from swept), v.events, v.description)
from (values
  ('sweep', array[pg_temp.reservation_expired('sweep', 'ann'), pg_temp.reservation_expired('sweep', 'cat'),
      pg_temp.stock_updated('sweep', 4)],
    'A sweep announces each hold that ran out and, once, the stock.'),
  ('other sweep', array[pg_temp.reservation_expired('other sweep', 'bob'), pg_temp.stock_updated('other sweep', 3)],
    'It does so for every drop.')
) as v (drop_name, events, description);
select ok(
  (select cardinality(events) = 5 and bool_and(events[n] not like 'RESERVATION%' or events[n + 1] is not null
      and substring(events[n] from '"dropId":"([^"]*)"') = substring(events[n + 1] from '"dropId":"([^"]*)"'))
    from swept, generate_subscripts(events, 1) as n
    group by events),
  'Events of one drop come together, its stock last; there are none of a drop where nothing ran out.'
);
select is(pg_temp.announced('select api.expire_reservations(1000000)'), '{}', 'A second sweep has nothing to announce.');

-- Many at once.

create temp table crowd on commit drop as select array_agg('crowd ' || n) as names from generate_series(1, 300) as n;
do $$
begin
  perform pg_temp.make_users(variadic names) from crowd;
  perform pg_temp.make_drop('crowded', 300);
  perform pg_temp.reserve_all('crowded', variadic names) from crowd;
  update inventory.reservations set expires_at = now() where drop_id = pg_temp.drop_id('crowded');
end
$$;
create temp table crowded on commit drop as select pg_temp.announced('select api.expire_reservations(1000000)') as events;
select bag_eq(
  'select unnest(events[:300]) from crowded',
  $$select pg_temp.reservation_expired('crowded', name) from crowd, unnest(names) as name$$,
  'Three hundred holds that run out together are announced each.'
);
select is((select events[301:] from crowded), array[pg_temp.stock_updated('crowded', 300)], 'And the stock once, after them.');

-- By hand.

create temp table by_hand on commit drop as
select pg_temp.announced($$
  update inventory.reservations set status = 'EXPIRED'
  where drop_id in (pg_temp.drop_id('tickets'), pg_temp.drop_id('quiet')) and status = 'ACTIVE';
  update inventory.drops set available_stock = 5 where id in (pg_temp.drop_id('tickets'), pg_temp.drop_id('quiet'))
$$) as events;
select is(
  array[pg_temp.in_order(events, 'tickets')::text, pg_temp.in_order(events, 'quiet')::text],
  array[
    array[pg_temp.reservation_expired('tickets', 'ann'), pg_temp.reservation_expired('tickets', 'cat'),
      pg_temp.stock_updated('tickets', 5)]::text,
    array[pg_temp.reservation_expired('quiet', 'ann'), pg_temp.reservation_expired('quiet', 'bob'),
      pg_temp.reservation_expired('quiet', 'cat'), pg_temp.stock_updated('quiet', 5)]::text
  ],
  'One statement that lets holds of two drops expire announces those of each, before the stock.'
)
from by_hand;
select is(pg_temp.announced(v.statement), '{}', v.description)
from (values
  ($$update inventory.reservations set updated_at = now() where drop_id = pg_temp.drop_id('quiet')$$,
    'A hold that has expired does not expire again when it is touched.'),
  ($$update inventory.reservations set status = 'CANCELLED' where drop_id = pg_temp.drop_id('quiet')$$,
    'A status that is not EXPIRED is not announced.'),
  ($$update inventory.reservations set status = 'EXPIRED' where false$$, 'A statement that changes no row announces nothing.'),
  ($$
    insert into inventory.reservations (drop_id, user_id, status, expires_at)
    select pg_temp.drop_id('quiet'), pg_temp.user_id('dan'), status, now() from unnest(array['CANCELLED', 'EXPIRED']) as status
  $$, 'A reservation that is put in is not announced, whatever its status.')
) as v (statement, description);

select * from finish();
rollback;
