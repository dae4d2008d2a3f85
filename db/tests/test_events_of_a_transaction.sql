-- A transaction announces the final state of each drop once, whatever it did on the way, and nothing of what it took back.
begin;
select plan(25);

create function pg_temp.new_drop(p_name text, p_stock integer) returns void language sql as $$
  select api.create_drop(p_name, 10, p_stock, pg_temp.user_id('seller'), '2020-01-01 00:00+00')
$$;

create function pg_temp.reserve(p_drop text, p_user text) returns void language sql as $$
  select api.reserve(pg_temp.drop_id(p_drop), pg_temp.user_id(p_user))
$$;

create function pg_temp.purchase(p_drop text, p_user text) returns void language sql as $$
  select api.purchase(pg_temp.drop_id(p_drop), pg_temp.user_id(p_user))
$$;

create function pg_temp.cancel(p_drop text, p_user text) returns void language sql as $$
  select api.cancel_reservation(r.id, r.user_id)
  from inventory.reservations r
  where r.drop_id = pg_temp.drop_id(p_drop) and r.user_id = pg_temp.user_id(p_user) and r.status = 'ACTIVE'
$$;

create function pg_temp.run_out(p_drop text, p_user text) returns void language sql as $$
  update inventory.reservations r
  set expires_at = now()
  where r.drop_id = pg_temp.drop_id(p_drop) and r.user_id = pg_temp.user_id(p_user) and r.status = 'ACTIVE'
$$;

-- What a statement announces, in short: "TYPE drop", and the stock; other files look at the rest.
create function pg_temp.summary_of(p_sql text) returns text[] language plpgsql as $$
declare
  v_last_id bigint;
begin
  set constraints all immediate;
  set constraints all deferred;
  v_last_id := (select coalesce(max(e.id), 0) from inventory.events e);
  perform pg_temp.announced(p_sql);
  return (
    select array_agg(concat_ws(' ', e.type, d.name, e.data ->> 'availableStock') order by e.id)
    from inventory.events e
    join inventory.drops d on d.id = e.drop_id and d.created_by = pg_temp.user_id('seller')
    where e.id > v_last_id
  );
end
$$;

create function pg_temp.changes() returns bigint language sql stable as $$
  select count(*) from inventory.changes c where c.transaction_id = pg_current_xact_id()
$$;

do $$ begin perform pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan'); end $$;

-- Everything at once.

select is(
  pg_temp.announced($$
    do $do$
    begin
      perform pg_temp.new_drop('shoes', 5);
      perform pg_temp.reserve('shoes', name) from unnest(array['ann', 'bob', 'cat', 'dan']) as name;
      perform pg_temp.purchase('shoes', 'cat');
      perform pg_temp.run_out('shoes', 'dan');
      perform pg_temp.cancel('shoes', 'bob');
      perform api.expire_reservations(1000000);
      perform api.update_drop(pg_temp.drop_id('shoes'), '{"total_stock": 9}');
      perform pg_temp.reserve('shoes', 'bob');
    end
    $do$
  $$),
  array[
    'DROP_CREATED {"drop":{"id":"shoes","name":"shoes","price":10.00,"currency":"USD","total_stock":9,"available_stock":6,'
      '"variants":[],"starts_at":"2020-01-01T00:00:00+00:00","ends_at":null,"status":"live","paused_at":null,'
      '"limit_per_user":null,"hold_seconds":null,"rehold_after_seconds":0,"extension_seconds":null,"revision":n,"created_by":"seller",'
      '"createdAt":"now","updatedAt":"now","image_url":null}}',
    'RESERVATION_EXPIRED {"dropId":"shoes","reservationId":"hold of dan"}',
    'PURCHASE_COMPLETED {"dropId":"shoes","username":"pgtap cat","qty":1,"purchasedAt":"now"}',
    'STOCK_UPDATED {"dropId":"shoes","availableStock":6}',
    'ACTIVITY_UPDATED {"dropId":"shoes","latestPurchasers":[{"userId":"cat","username":"pgtap cat","qty":1,"createdAt":"now"}]}'
  ],
  'A whole sale in one transaction is announced once: the drop, who lost a unit, who bought one, stock, latest purchasers.'
);
select is(pg_temp.changes(), 0::bigint, 'Nothing is left to be announced.');
select is(
  pg_temp.summary_of($$
    do $do$
    begin
      for i in 1 .. 20 loop
        perform pg_temp.reserve('shoes', 'dan');
        perform pg_temp.cancel('shoes', 'dan');
      end loop;
      perform pg_temp.reserve('shoes', 'dan');
    end
    $do$
  $$),
  array['STOCK_UPDATED shoes 5'], 'Forty-one changes of stock are one STOCK_UPDATED, of the last.'
);
select is(
  pg_temp.summary_of($$
    do $do$ begin perform pg_temp.cancel('shoes', 'dan'); perform pg_temp.reserve('shoes', 'dan'); end $do$
  $$),
  array['STOCK_UPDATED shoes 5'], 'Stock that went and came is announced as it is.'
);
select is(
  (
    select row(every(e.id > lag_id), every(e.created_at >= lag_created_at), every(e.created_at >= now()))::text
    from (
      select id, created_at, lag(id) over (order by id) as lag_id, lag(created_at) over (order by id) as lag_created_at
      from inventory.events
      where drop_id = pg_temp.drop_id('shoes')
    ) e
  ),
  '(t,t,t)', 'Ids rise, and the moments of publishing with them.'
);

-- Several drops.

do $$ begin perform pg_temp.new_drop(name, 5) from unnest(array['tickets', 'watches', 'quiet']) as name; end $$;
select is(
  pg_temp.summary_of($$
    do $do$
    begin
      perform pg_temp.reserve('watches', 'ann');
      perform pg_temp.reserve('tickets', 'ann');
      perform pg_temp.purchase('tickets', 'ann');
      perform pg_temp.reserve('watches', 'bob');
      perform pg_temp.reserve('tickets', 'bob');
      perform pg_temp.purchase('watches', 'bob');
    end
    $do$
  $$),
  array[
    'PURCHASE_COMPLETED tickets', 'STOCK_UPDATED tickets 3', 'ACTIVITY_UPDATED tickets',
    'PURCHASE_COMPLETED watches', 'STOCK_UPDATED watches 3', 'ACTIVITY_UPDATED watches'
  ],
  'Each drop that a transaction touched is announced by itself, in the order of their ids.'
);
select is(
  (select count(distinct e.drop_id) from inventory.events e
    where e.drop_id in (pg_temp.drop_id('watches'), pg_temp.drop_id('tickets'))),
  2::bigint, 'The log knows the drop of each event.'
);
select is_empty(
  $$
    select e.id
    from inventory.events e
    where e.drop_id in (select d.id from inventory.drops d where d.created_by = pg_temp.user_id('seller'))
      and e.drop_id::text is distinct from coalesce(e.data ->> 'dropId', e.data #>> '{drop,id}')
  $$,
  'It is the one that the data names.'
);

-- What was taken back.

select is(
  pg_temp.summary_of($$
    do $do$
    begin
      perform pg_temp.reserve('tickets', 'cat');
      begin
        perform pg_temp.reserve('tickets', 'dan');
        perform pg_temp.purchase('tickets', 'cat');
        perform pg_temp.reserve('quiet', 'cat');
        perform api.update_drop(pg_temp.drop_id('tickets'), '{"price": 1}');
        raise sqlstate 'UNDO0';
      exception when sqlstate 'UNDO0' then
      end;
    end
    $do$
  $$),
  array['STOCK_UPDATED tickets 2'], 'Of a part that is rolled back there is no trace; what came before is announced.'
);
select is(
  pg_temp.summary_of($$
    do $do$
    begin
      begin
        perform pg_temp.reserve('tickets', 'dan');
        raise sqlstate 'UNDO0';
      exception when sqlstate 'UNDO0' then
      end;
      perform pg_temp.reserve('watches', 'cat');
    end
    $do$
  $$),
  array['STOCK_UPDATED watches 2'], 'Nor when the drop was touched for the first time in that part.'
);
select is(
  pg_temp.summary_of($$
    do $do$
    begin
      begin
        perform pg_temp.purchase('tickets', 'cat');
        raise sqlstate 'UNDO0';
      exception when sqlstate 'UNDO0' then
      end;
      perform pg_temp.cancel('tickets', 'cat');
    end
    $do$
  $$),
  array['STOCK_UPDATED tickets 3'], 'What comes after such a part is announced.'
);
select is(pg_temp.changes(), 0::bigint, 'Nothing is left to be announced.');

do $$ begin perform pg_temp.reserve('quiet', 'ann'); end $$;
create temp table log on commit drop as select coalesce(max(id), 0) as last_id from inventory.events;
select is(pg_temp.changes(), 1::bigint, 'Until the end a change is only noted.');
savepoint announced;
set constraints all immediate;
set constraints all deferred;
select is((select count(*) from inventory.events, log where id > last_id), 1::bigint, 'What is announced in such a part');
rollback to savepoint announced;
select is(
  (select count(*) from inventory.events, log where id > last_id), 0::bigint, 'was not announced when it is rolled back,'
);
set constraints all immediate;
set constraints all deferred;
select results_eq(
  $$select type, data ->> 'availableStock' from inventory.events, log where id > last_id$$, $$values ('STOCK_UPDATED', '4')$$,
  'and is announced at the end all the same.'
);

-- A drop that is gone.

select is(
  pg_temp.summary_of($$
    do $do$
    begin
      perform pg_temp.new_drop('gone', 5);
      perform pg_temp.reserve('watches', 'dan');
      delete from inventory.drops where id = pg_temp.drop_id('gone');
    end
    $do$
  $$),
  array['STOCK_UPDATED watches 1'], 'A drop that was made and deleted by hand is not announced, and is in nobody''s way.'
);
do $$ begin perform pg_temp.new_drop('going', 5); end $$;
select is(
  pg_temp.summary_of($$
    do $do$
    begin
      update inventory.drops set price = 5 where id = pg_temp.drop_id('going');
      delete from inventory.drops where id = pg_temp.drop_id('going');
    end
    $do$
  $$),
  null, 'Nor is the last change of a drop that was deleted by hand.'
);
select is(
  pg_temp.summary_of($$
    do $do$
    begin
      insert into inventory.reservations (drop_id, user_id, expires_at)
      values (md5('after its hold')::uuid, pg_temp.user_id('ann'), now() + interval '1 minute');
      insert into inventory.drops (id, name, price, total_stock, available_stock, starts_at, status, created_by)
      values (md5('after its hold')::uuid, 'after its hold', 1, 5, 4, now(), 'live', pg_temp.user_id('seller'));
    end
    $do$
  $$),
  array['DROP_CREATED after its hold'], 'A drop that was made by hand after its hold is announced.'
);
do $$ begin perform pg_temp.new_drop('replaced', 5); end $$;
select is(
  pg_temp.summary_of($$
    do $do$
    declare
      v_drop inventory.drops;
    begin
      delete from inventory.drops where id = pg_temp.drop_id('replaced') returning * into v_drop;
      v_drop.price := 5;
      insert into inventory.drops select v_drop.*;
    end
    $do$
  $$),
  array['DROP_UPDATED replaced'], 'So is one that was deleted and made again.'
);
select is(pg_temp.changes(), 0::bigint, 'Nothing is left to be announced of them.');

-- Constraints that are immediate.

select is(
  pg_temp.summary_of($$
    do $do$
    begin
      set constraints all immediate;
      perform pg_temp.new_drop('immediate', 5);
      perform api.update_drop(pg_temp.drop_id('immediate'), '{"price": 5}');
      perform api.update_drop(pg_temp.drop_id('immediate'), '{"total_stock": 6}');
    end
    $do$
  $$),
  array['DROP_CREATED immediate', 'DROP_UPDATED immediate', 'DROP_UPDATED immediate', 'STOCK_UPDATED immediate 6'],
  'When constraints are immediate each statement is announced by itself, so the last event has the final state.'
);
select matches(
  pg_temp.refusal($$
    do $do$
    begin
      set constraints all immediate;
      perform pg_temp.reserve('immediate', 'ann');
    end
    $do$
  $$),
  '^23000 the stock of drop .* does not balance',
  'Then a reserve is refused, because the hold and the stock are noted one by one.'
);
set constraints all deferred;
select is(
  pg_temp.summary_of($$
    do $do$
    begin
      perform pg_temp.reserve('immediate', 'bob');
      perform pg_temp.reserve('immediate', 'cat');
      set constraints inventory.changes_announce immediate;
      perform api.update_drop(pg_temp.drop_id('immediate'), '{"price": 6}');
    end
    $do$
  $$),
  array['STOCK_UPDATED immediate 4', 'DROP_UPDATED immediate'],
  'When they become immediate, what is pending is announced, and the rest after it.'
);

select is_empty(
  $$
    select a.* from api.audit() a join inventory.drops d on d.id = a.drop_id
    where d.created_by = pg_temp.user_id('seller')
  $$,
  'No unit was lost or made up on the way.'
);

select * from finish();
rollback;
