-- Every change of stock is a HOT update: no index is written for it, so the one row all buyers want stays cheap to change.
begin;
select plan(7);

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

create temp table buyer on commit drop as select n, 'buyer ' || n as name from generate_series(1, 300) as n;
select pg_temp.make_users('seller');
select pg_temp.make_users(variadic array(select name from buyer));
select pg_temp.make_drop('shoes', 300);

-- Versions made within one transaction cannot be cleared away before its end, so a page holds only some dozens of them. In
-- production every reserve is a transaction of its own and the page never fills up.
select is(
  pg_temp.updates_by($$
    select pg_temp.reserve_all('shoes', variadic array_agg(name)) from buyer group by n % 20
  $$),
  array[20, 20]::bigint[],
  'Three hundred reserves in twenty batches are twenty updates of the drop, all HOT.'
);
select is(pg_temp.stock_of('shoes'), 0, 'They took three hundred units.');
do $$
begin
  perform api.expire_reservations(100000); -- what other tests left
  perform pg_temp.purchase_all('shoes', 'buyer 1', 'buyer 2');
  update inventory.reservations set expires_at = '2000-01-01'
  where drop_id = pg_temp.drop_id('shoes') and status = 'ACTIVE' and user_id <> all (pg_temp.user_ids('buyer 3', 'buyer 4'));
end
$$;
select is(pg_temp.updates_by(v.statement), v.expected, v.description)
from (values
  ($$select pg_temp.cancel_all('shoes', 'buyer 3', 'buyer 4')$$, array[1, 1]::bigint[],
    'Cancels in a batch are one update of the drop, HOT.'),
  ('select api.expire_reservations(25)', array[1, 1], 'A sweep of many holds of a drop is one update of it, HOT.'),
  ($$select api.refund_purchase(pg_temp.purchase_id('shoes', 'buyer 1'))$$, array[1, 1], 'So is a refund.'),
  ($$select api.update_drop(pg_temp.drop_id('shoes'), '{"total_stock": 310}')$$, array[2, 2],
    'A restock takes due holds back first, so it is two, HOT.'),
  ($$select api.update_drop(pg_temp.drop_id('shoes'), '{"status": "ended"}')$$, array[1, 0],
    'A change of status is not HOT, because status is in an index: the counters do tell.')
) as v (statement, expected, description);

select * from finish();
rollback;
