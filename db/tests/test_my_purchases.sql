-- api.my_purchases shows a user all the user's own purchases, newest first, refunded ones included.
begin;
select plan(6);

select pg_temp.make_users('seller', 'ann', 'bob', 'cat');
select pg_temp.make_drops('first', 'second', 'third', 'fourth', 'fifth', 'sixth', 'held');
select pg_temp.buy(name, 'ann') from unnest(array['first', 'second', 'third', 'fourth', 'fifth', 'sixth']) as name;
select pg_temp.hold('held', 'ann');
select pg_temp.buy('first', 'bob');
-- Rows of one transaction have one time, so they are given their own.
update inventory.purchases p
set created_at = now() - v.age, status = v.status
from (values
  ('first', interval '1 minute', 'paid'), ('second', '4 minutes', 'refunded'), ('third', '2 minutes', 'pending'),
  ('fourth', '2 minutes', 'failed'), ('fifth', '3 minutes', 'cancelled'), ('sixth', '0', 'paid')
) as v (name, age, status)
where p.id = pg_temp.purchase_id(v.name, 'ann');

select results_eq(
  $$select * from api.my_purchases(pg_temp.user_id('bob'))$$,
  $$select * from pg_temp.stored_purchases() where id = pg_temp.purchase_id('first', 'bob')$$,
  'A user is shown the user''s own purchase as it is stored, and no other user''s.'
);
select results_eq(
  $$select * from api.my_purchases(pg_temp.user_id('ann'))$$,
  $$select * from pg_temp.stored_purchases() where user_id = pg_temp.user_id('ann') order by "createdAt" desc, id desc$$,
  'Purchases are shown as they are stored, the newest first, of two as old the greater id.'
);
select is(
  (select array_agg(status order by status) from api.my_purchases(pg_temp.user_id('ann'))),
  array['cancelled', 'failed', 'paid', 'paid', 'pending', 'refunded'], 'Purchases of every status are shown; a hold is none.'
);
select is_empty($$select * from api.my_purchases(pg_temp.user_id('cat'))$$, 'A user without purchases is shown nothing.');
select is(pg_temp.refusal(format('select api.my_purchases(%L)', id)), pg_temp.error('AUTH_REQUIRED'), 'A stranger is refused.')
from unnest(array[pg_temp.user_id('nobody'), null]) as id;

select * from finish();
rollback;
