-- api.cancel_batch gives the units of many holds back, on as many drops: one outcome each, and no unit goes back twice.
begin;
select plan(28);

-- Reservations by "user drop".
create temp table held (name text primary key, id uuid not null) on commit drop;
create function pg_temp.held(p_name text) returns uuid language sql stable as $$ select h.id from held h where h.name = p_name $$;

create function pg_temp.reserve(p_name text) returns void language sql as $$
  insert into held
  select p_name, r.id from api.reserve(pg_temp.drop_id(split_part(p_name, ' ', 2)), pg_temp.user_id(split_part(p_name, ' ', 1))) r
$$;

-- Cancel each reservation by the user it is named after.
create function pg_temp.cancel(variadic p_names text[]) returns setof api.outcome language sql as $$
  select o.*
  from api.cancel_batch(array(
    select row(pg_temp.held(name), pg_temp.user_id(split_part(name, ' ', 1)))::api.cancel_request
    from unnest(p_names) with ordinality as u (name, n)
    order by n
  )) o
$$;

select pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan', 'eve');

do $$
begin
  perform api.create_drop(name, 10, 10, pg_temp.user_id('seller'), now() - interval '1 hour')
  from unnest(array['shoes', 'tickets']) as name;
  perform pg_temp.reserve(name)
  from unnest(array['ann shoes', 'bob shoes', 'cat shoes', 'dan shoes', 'ann tickets', 'bob tickets']) as name;
  update inventory.reservations set updated_at = now() - interval '1 day' where id in (select id from held);
end
$$;

-- Outcomes.

create temp table outcome on commit drop as
select row_number() over () as place, o.* from pg_temp.cancel('bob tickets', 'ann shoes', 'ann tickets', 'bob shoes') o;
create temp table cancelled on commit drop as
select o.n, r.* from outcome o cross join json_populate_record(null::api.reservation_row, o.data) r;

select results_eq(
  $$select n, status, code, message, replayed from outcome order by n$$,
  $$select n, 200, null::text, null::text, false from generate_series(1, 4) as n$$,
  'Every request has one outcome, whatever drops the reservations are of.'
);
select is(
  (select array_agg(n order by place) from outcome), array[1, 2, 3, 4],
  'The outcomes of several drops are in the order of the requests.'
);
select is(
  (select array_agg(key) from outcome, json_object_keys(data) as key where n = 1),
  array['id', 'drop_id', 'variant_id', 'user_id', 'basket_id', 'qty', 'unit_price', 'currency', 'amount', 'status', 'expires_at',
    'extended_at', 'createdAt', 'updatedAt'],
  'The data has the names of the wire.'
);
select results_eq(
  $$select id, drop_id, user_id, status, "updatedAt" from cancelled order by n$$,
  $$
    values
      (pg_temp.held('bob tickets'), pg_temp.drop_id('tickets'), pg_temp.user_id('bob'), 'CANCELLED', now()),
      (pg_temp.held('ann shoes'), pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'CANCELLED', now()),
      (pg_temp.held('ann tickets'), pg_temp.drop_id('tickets'), pg_temp.user_id('ann'), 'CANCELLED', now()),
      (pg_temp.held('bob shoes'), pg_temp.drop_id('shoes'), pg_temp.user_id('bob'), 'CANCELLED', now())
  $$,
  'Each shows the reservation asked for, CANCELLED now.'
);
select results_eq(
  $$
    select r.id, r.drop_id, r.user_id, r.status, r.expires_at, r.created_at, r.updated_at
    from inventory.reservations r
    where r.id in (select id from cancelled)
    order by r.id
  $$,
  $$select id, drop_id, user_id, status, expires_at, "createdAt", "updatedAt" from cancelled order by id$$,
  'What comes back is what is stored.'
);
select is(
  (select array_agg(name order by name) from held h join inventory.reservations r on r.id = h.id where r.status = 'ACTIVE'),
  array['cat shoes', 'dan shoes'], 'No other hold is touched.'
);
select is(
  array[pg_temp.stock_of('shoes'), pg_temp.stock_of('tickets')], array[8, 10], 'The units are back in the stock of their drops.'
);
select is_empty($$select * from api.cancel_batch('{}')$$, 'A batch of nothing answers nothing.');
select is_empty($$select * from api.cancel_batch(null)$$, 'A batch that is null answers nothing.');

-- Refusals.

do $$
begin
  perform pg_temp.reserve(name) from unnest(array['eve shoes', 'eve tickets', 'dan tickets']) as name;
  perform api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('eve'));
  update inventory.reservations set expires_at = now() where id = pg_temp.held('eve tickets');
  perform api.expire_reservations(1000000);
end
$$;
create temp table refusal on commit drop as
select *
from api.cancel_batch(array[
  row(pg_temp.held('ann shoes'), pg_temp.user_id('ann')),
  row(pg_temp.held('eve shoes'), pg_temp.user_id('eve')),
  row(pg_temp.held('eve tickets'), pg_temp.user_id('eve')),
  row(pg_temp.held('dan tickets'), pg_temp.user_id('ann')),
  row(gen_random_uuid(), pg_temp.user_id('ann')),
  row(null, pg_temp.user_id('ann')),
  row(pg_temp.held('dan tickets'), pg_temp.user_id('nobody')),
  null,
  row(pg_temp.held('cat shoes'), null)]::api.cancel_request[]);
select results_eq(
  $$select n, status, code from refusal order by n$$,
  $$
    values
      (1, 200, null), (2, 409, 'RESERVATION_NOT_ACTIVE'), (3, 409, 'RESERVATION_EXPIRED'),
      (4, 404, 'RESERVATION_NOT_FOUND'), (5, 404, 'RESERVATION_NOT_FOUND'), (6, 404, 'RESERVATION_NOT_FOUND'),
      (7, 401, 'AUTH_REQUIRED'), (8, 401, 'AUTH_REQUIRED'), (9, 401, 'AUTH_REQUIRED')
  $$,
  'What was cancelled is answered again. What was bought or ran out, is another''s or nobody''s, and who is unknown, is refused.'
);
select is_empty(
  $$
    select r.n from refusal r
    where r.n > 1 and (
      not exists (select from api.errors() e where e.code = r.code and e.status = r.status and e.message = r.message)
      or r.data is not null or r.replayed)
  $$,
  'Every refusal has the status and the sentence of api.errors, and no data.'
);
select is(array[pg_temp.stock_of('shoes'), pg_temp.stock_of('tickets')], array[7, 9], 'A refusal gives nothing back.');

-- What is over for another reason does not run out any more, however long ago its time has passed.
do $$
begin
  update inventory.reservations
  set expires_at = now() - interval '1 hour'
  where id in (pg_temp.held('ann shoes'), pg_temp.held('eve shoes'));
end
$$;
select results_eq(
  $$select n, code from pg_temp.cancel('ann shoes', 'eve shoes', 'eve tickets') order by n$$,
  $$values (1, null), (2, 'RESERVATION_NOT_ACTIVE'), (3, 'RESERVATION_EXPIRED')$$,
  'What was cancelled, consumed or expired stays so when its time has passed.'
);
select is(pg_temp.stock_of('shoes'), 7, 'Then, too, nothing is given back.');
select results_eq(
  $$
    select h.name, r.status
    from held h
    join inventory.reservations r on r.id = h.id
    where h.name in ('ann shoes', 'eve shoes', 'eve tickets')
    order by h.name
  $$,
  $$values ('ann shoes', 'CANCELLED'), ('eve shoes', 'CONSUMED'), ('eve tickets', 'EXPIRED')$$,
  'Each keeps its status.'
);

-- The same reservation, several times.

create temp table again on commit drop as
select row_number() over () as place, o.* from pg_temp.cancel('cat shoes', 'dan shoes', 'cat shoes', 'cat shoes') o;
select results_eq(
  $$select n, status, code from again order by n$$,
  $$
    values (1, 200, null), (2, 200, null), (3, 200, null), (4, 200, null)
  $$,
  'A reservation named again is answered again, because a request may come twice.'
);
select is(
  (select array_agg(n order by place) from again), array[1, 2, 3, 4], 'The outcomes of one drop are in the order of the requests.'
);
select is(pg_temp.stock_of('shoes'), 9, 'Its unit goes back once.');
do $$
begin
  delete from held where name = 'bob shoes';
  perform pg_temp.reserve('bob shoes');
end
$$;
select results_eq(
  $$
    select n, status, code
    from api.cancel_batch(array[
      row(pg_temp.held('bob shoes'), pg_temp.user_id('ann')),
      row(pg_temp.held('bob shoes'), pg_temp.user_id('bob'))]::api.cancel_request[])
    order by n
  $$,
  $$values (1, 404, 'RESERVATION_NOT_FOUND'), (2, 200, null)$$,
  'Somebody else''s wish does not come before its user''s.'
);

-- Holds that have run out.

do $$
begin
  delete from held;
  perform pg_temp.reserve(name) from unnest(array['ann shoes', 'bob shoes', 'cat shoes']) as name;
  update inventory.reservations set expires_at = now() where id = pg_temp.held('ann shoes');
  update inventory.reservations set expires_at = now() + interval '1 microsecond' where id = pg_temp.held('bob shoes');
  update inventory.reservations set expires_at = now() - interval '1 hour' where id = pg_temp.held('cat shoes');
end
$$;
select results_eq(
  $$select n, status, code, data ->> 'status' from pg_temp.cancel('ann shoes', 'bob shoes', 'ann shoes') order by n$$,
  $$
    values (1, 409, 'RESERVATION_EXPIRED', null), (2, 200, null, 'CANCELLED'), (3, 409, 'RESERVATION_EXPIRED', null)
  $$,
  'A hold that runs out at this moment has expired, one with a microsecond left is cancelled.'
);
select results_eq(
  $$select h.name, r.status from held h join inventory.reservations r on r.id = h.id order by h.name$$,
  $$values ('ann shoes', 'EXPIRED'), ('bob shoes', 'CANCELLED'), ('cat shoes', 'ACTIVE')$$,
  'It is marked EXPIRED; one that nobody named is left to the sweep.'
);
select is(pg_temp.stock_of('shoes'), 8, 'Both units are back in stock.');

do $$
begin
  perform pg_temp.reserve('bob tickets');
  perform api.update_drop(pg_temp.drop_id('tickets'), '{"status": "ended"}');
end
$$;
select results_eq(
  $$select n, status, data ->> 'status' from pg_temp.cancel('bob tickets')$$, $$values (1, 200, 'CANCELLED')$$,
  'A hold can be cancelled when the drop is over.'
);

-- Several drops, of which one may be busy: what is changed for that is put back.

do $$
begin
  delete from held;
  perform api.create_drop(name, 10, 10, pg_temp.user_id('seller'), now() - interval '1 hour')
  from unnest(array['red', 'blue', 'green']) as name;
  perform pg_temp.reserve(name)
  from unnest(array['ann red', 'bob red', 'cat red', 'ann blue', 'bob blue', 'ann green', 'bob green', 'cat green']) as name;
end
$$;
create temp table mixed on commit drop as
select o.* from pg_temp.cancel('bob green', 'ann red', 'ann blue', 'bob red', 'ann green') o;
select is(
  (select array_agg(d.name order by d.cmin::text::bigint) from inventory.drops d where d.name in ('red', 'blue', 'green')
    and d.created_by = pg_temp.user_id('seller')),
  (select array_agg(d.name order by d.id) from inventory.drops d where d.name in ('red', 'blue', 'green')
    and d.created_by = pg_temp.user_id('seller')),
  'The drops are written in the order of their ids, whatever that of the requests.'
);

create temp table timeout (setting text, requests text[], n integer) on commit drop;
insert into timeout values
  ('0', array['cat red', 'cat green'], 1), ('12345ms', array['bob blue', 'ann red', 'nobody shoes'], 2),
  ('50ms', array['ann blue', 'bob blue'], 3);
select is(
  set_config('lock_timeout', t.setting, true)
    || (select array_agg(o.status) from pg_temp.cancel(variadic t.requests) o)::text
    || current_setting('lock_timeout'),
  t.setting || v.expected || t.setting, format('A lock_timeout of %s is what it was%s.', t.setting, v.description)
)
from timeout t
join (values
  (1, '{200,200}', ''), (2, '{200,200,401}', ', also when some are refused'), (3, '{200,200}', ', also when all are of one drop')
) as v (n, expected, description) using (n)
order by t.n;

select is_empty(
  $$
    select a.* from api.audit() a join inventory.drops d on d.id = a.drop_id where d.created_by = pg_temp.user_id('seller')
  $$,
  'No unit was lost or made up on the way.'
);

select * from finish();
rollback;
