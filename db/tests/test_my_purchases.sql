-- api.my_purchases shows a user all he bought, newest first, whatever became of it, and nothing of anybody else.
begin;
select plan(7);

create function pg_temp.buy(p_drop text, p_user text) returns void language plpgsql as $$
begin
  perform api.reserve(pg_temp.drop_id(p_drop), pg_temp.user_id(p_user));
  perform api.purchase(pg_temp.drop_id(p_drop), pg_temp.user_id(p_user));
end
$$;

do $$
begin
  perform api.ensure_user(pg_temp.user_id(name)) from unnest(array['seller', 'ann', 'bob', 'cat']) as name;
  perform api.create_drop(name, 10, 9, pg_temp.user_id('seller'), now() - interval '1 hour')
  from unnest(array['first', 'second', 'third', 'fourth', 'fifth', 'sixth', 'held']) as name;
  perform pg_temp.buy(name, 'ann') from unnest(array['first', 'second', 'third', 'fourth', 'fifth', 'sixth']) as name;
  perform api.reserve(pg_temp.drop_id('held'), pg_temp.user_id('ann'));
  perform pg_temp.buy('first', 'bob');
  -- Rows of one transaction have one time, so they are given their own.
  update inventory.purchases p
  set created_at = now() - v.age, status = v.status
  from (values
    ('first', interval '1 minute', 'paid'), ('second', '4 minutes', 'refunded'), ('third', '2 minutes', 'pending'),
    ('fourth', '2 minutes', 'failed'), ('fifth', '3 minutes', 'cancelled'), ('sixth', '0', 'paid')
  ) as v (name, age, status)
  where p.drop_id = pg_temp.drop_id(v.name) and p.user_id = pg_temp.user_id('ann');
end
$$;

select is(
  (select array_agg(key) from api.my_purchases(pg_temp.user_id('bob')) m, json_object_keys(to_json(m)) as key),
  array['id', 'drop_id', 'reservation_id', 'user_id', 'qty', 'status', 'createdAt', 'updatedAt'],
  'The row has the names of the wire.'
);
select results_eq(
  $$select * from api.my_purchases(pg_temp.user_id('bob'))$$,
  $$
    select id, drop_id, reservation_id, user_id, 1, 'paid', now(), now()
    from inventory.purchases
    where drop_id = pg_temp.drop_id('first') and user_id = pg_temp.user_id('bob')
  $$,
  'A user is shown his purchase as it is stored, and nobody else''s.'
);
select results_eq(
  $$
    select d.name, m.status
    from (select row_number() over () as place, p.* from api.my_purchases(pg_temp.user_id('ann')) p) m
    join inventory.drops d on d.id = m.drop_id
    order by m.place
  $$,
  $$
    select d.name, p.status
    from inventory.purchases p
    join inventory.drops d on d.id = p.drop_id
    where p.user_id = pg_temp.user_id('ann')
    order by array_position(array['sixth', 'first', 'third and fourth', 'fifth', 'second'],
      case when d.name in ('third', 'fourth') then 'third and fourth' else d.name end), p.id desc
  $$,
  'Purchases of every status are shown, the newest first, of two as old the greater id.'
);
select is(
  (select array_agg(m."createdAt") from api.my_purchases(pg_temp.user_id('ann')) m where m.status = 'refunded'),
  array[now() - interval '4 minutes'], 'A purchase shows when it was made.'
);
select is_empty($$select * from api.my_purchases(pg_temp.user_id('cat'))$$, 'Who bought nothing is shown nothing.');

select throws_ok(
  $$select api.my_purchases(pg_temp.user_id('nobody'))$$, 'PT401', 'AUTH_REQUIRED', 'An unknown user is refused.'
);
select throws_ok($$select api.my_purchases(null)$$, 'PT401', 'AUTH_REQUIRED', 'No user is refused.');

select * from finish();
rollback;
