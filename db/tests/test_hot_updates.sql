-- Every change of stock is a HOT update: no index is written for it, so the one row all buyers want stays cheap to change.
begin;
select plan(8);

create function pg_temp.drop_id() returns uuid language sql stable as $$
  select d.id from inventory.drops d where d.created_by = pg_temp.user_id('seller')
$$;

-- This transaction's updates of drops so far, all and HOT. The counters may hold something of earlier transactions of the session
-- that is not reported yet, so only differences count.
create function pg_temp.updates_of_drops() returns bigint[] language sql volatile as $$
  select array[s.n_tup_upd, s.n_tup_hot_upd] from pg_stat_xact_user_tables s where s.relid = 'inventory.drops'::regclass
$$;

-- Run a statement; by how many updates of drops, all and HOT?
create function pg_temp.updates_by(p_sql text) returns bigint[] language plpgsql as $$
declare
  v_before bigint[] := pg_temp.updates_of_drops();
  v_after bigint[];
begin
  execute p_sql;
  v_after := pg_temp.updates_of_drops();
  return array[v_after[1] - v_before[1], v_after[2] - v_before[2]];
end
$$;

create temp table buyer on commit drop as select n, pg_temp.user_id('buyer ' || n) as id from generate_series(1, 300) as n;
do $$
begin
  perform api.ensure_user(id) from buyer;
  perform api.ensure_user(pg_temp.user_id('seller'));
  perform api.create_drop('shoes', 10, 300, pg_temp.user_id('seller'), now() - interval '1 hour');
end
$$;

-- Versions made within one transaction cannot be cleared away before its end, so a page holds only some dozens of them. In
-- earnest every reserve is a transaction of its own and the page never fills up.
select is(
  pg_temp.updates_by($$
    do $do$
    begin
      for i in 0 .. 19 loop
        perform api.reserve_batch(pg_temp.drop_id(), array(select id from buyer where n % 20 = i), null);
      end loop;
    end
    $do$
  $$),
  array[20, 20]::bigint[],
  'Three hundred reserves in twenty batches are twenty updates of the drop, all HOT.'
);
select is((select available_stock from inventory.drops where id = pg_temp.drop_id()), 0, 'They took three hundred units.');
select is(
  pg_temp.updates_by($$
    do $do$
    begin
      perform api.purchase_batch(pg_temp.drop_id(), array(select id from buyer where n <= 200), null);
    end
    $do$
  $$),
  array[0, 0]::bigint[],
  'Two hundred purchases do not update the drop.'
);
select is(
  pg_temp.updates_by($$
    do $do$
    begin
      perform api.cancel_batch(array_agg(r.id), array_agg(r.user_id))
      from inventory.reservations r
      join buyer b on b.id = r.user_id
      where r.drop_id = pg_temp.drop_id() and b.n between 201 and 250;
    end
    $do$
  $$),
  array[1, 1]::bigint[],
  'Fifty cancels in a batch are one update of the drop, HOT.'
);
do $$
begin
  update inventory.reservations set expires_at = '2000-01-01' where drop_id = pg_temp.drop_id() and status = 'ACTIVE';
end
$$;
select is(
  pg_temp.updates_by('do $do$ begin perform api.expire_reservations(25); end $do$'), array[1, 1]::bigint[],
  'A sweep of many holds of a drop is one update of it, HOT.'
);
select is(
  pg_temp.updates_by($$
    do $do$
    begin
      perform api.refund_purchase(p.id) from inventory.purchases p where p.drop_id = pg_temp.drop_id() limit 1;
    end
    $do$
  $$),
  array[1, 1]::bigint[],
  'A refund is one update of the drop, HOT.'
);
select is(
  pg_temp.updates_by($$
    do $do$ begin perform api.update_drop(pg_temp.drop_id(), '{"total_stock": 310}'); end $do$
  $$),
  array[1, 1]::bigint[],
  'A restock is one update of the drop, HOT.'
);
select is(
  pg_temp.updates_by($$
    do $do$ begin perform api.update_drop(pg_temp.drop_id(), '{"status": "ended"}'); end $do$
  $$),
  array[1, 0]::bigint[],
  'A change of status is not HOT, for it is in an index: the counters do tell.'
);

select * from finish();
rollback;
