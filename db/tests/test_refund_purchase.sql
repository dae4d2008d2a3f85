-- api.refund_purchase takes a paid purchase back and its units into stock, once: a unit given back twice would be sold twice.
begin;
select plan(13);

select pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan', 'eve', 'fay');
select pg_temp.make_drops('shoes');
select pg_temp.buy('shoes', 'ann', 'bob', 'cat', 'dan', 'eve');
select pg_temp.hold('shoes', 'fay');
update inventory.purchases set created_at = now() - interval '2 days', updated_at = now() - interval '2 days'
where drop_id = pg_temp.drop_id('shoes');
select pg_temp.age_drops();
create temp table before on commit drop as select * from pg_temp.stored_purchases();
create temp table refunded on commit drop as select * from api.refund_purchase(pg_temp.purchase_id('shoes', 'ann'));

select results_eq(
  'table refunded',
  $$
    select
      id, drop_id, null::uuid, reservation_id, user_id, 1, 10.00, 'USD', 10.00, 'refunded', 10.00, now(),
      now() - interval '2 days', now(), 1, null::uuid
    from before where user_id = pg_temp.user_id('ann')
  $$,
  'The purchase comes back refunded, changed now.'
);
select bag_eq(
  'select * from pg_temp.stored_purchases()',
  $$table refunded union all select * from before where user_id <> pg_temp.user_id('ann')$$,
  'What comes back is what is stored; no other user''s purchase is touched.'
);
select results_eq(
  'select available_stock, "updatedAt" from pg_temp.stored_drops()', 'values (5, now())',
  'Its unit is back in stock, and the drop says that it changed.'
);
select is(
  (select array_agg(distinct status order by status) from pg_temp.stored_reservations() where user_id <> pg_temp.user_id('fay')),
  array['CONSUMED'], 'The reservation stays CONSUMED: it is no hold again.'
);
select is(
  (select status from api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'))), 'ACTIVE', 'The user may reserve again.'
);
do $$
begin
  update inventory.purchases set qty = 3, amount = 30 where id = pg_temp.purchase_id('shoes', 'bob');
  update inventory.reservations set qty = 3 where id = pg_temp.hold_id('shoes', 'bob');
  update inventory.drops set available_stock = available_stock - 2 where id = pg_temp.drop_id('shoes');
  perform api.refund_purchase(pg_temp.purchase_id('shoes', 'bob'));
end
$$;
select is(pg_temp.stock_of('shoes'), 5, 'A purchase of three units gives three units back.');

-- Errors.

update inventory.purchases p set status = v.status
from (values ('cat', 'pending'), ('dan', 'failed'), ('eve', 'cancelled')) as v (name, status)
where p.id = pg_temp.purchase_id('shoes', v.name);
select is(
  pg_temp.refusal(format('select api.refund_purchase(%L)', pg_temp.purchase_id('shoes', v.name))),
  pg_temp.error('INVALID_STATUS_CHANGE', format('A purchase that is %s cannot be refunded.', v.status)),
  format('A purchase that is %s is not paid, and the refusal says so.', v.status)
)
from (values ('ann', 'refunded'), ('cat', 'pending'), ('dan', 'failed'), ('eve', 'cancelled')) as v (name, status);
select is(pg_temp.refusal(format('select api.refund_purchase(%L)', id)), pg_temp.error('PURCHASE_NOT_FOUND'),
  'A purchase that does not exist is not found.')
from unnest(array[gen_random_uuid(), null]) as id;

-- A failed and a cancelled purchase hold no unit, so their units are given back by hand before the audit.
update inventory.drops set available_stock = available_stock + 2 where id = pg_temp.drop_id('shoes');
select is_empty('select * from pg_temp.findings()', 'No unit was lost or made up on the way.');

select * from finish();
rollback;
