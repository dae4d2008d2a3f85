-- api.my_reservations shows a user what he can still purchase: his own ACTIVE holds that have not run out, and nobody else's.
begin;
select plan(9);

create function pg_temp.reservation_id(p_drop text, p_user text) returns uuid language sql stable as $$
  select r.id from inventory.reservations r where r.drop_id = pg_temp.drop_id(p_drop) and r.user_id = pg_temp.user_id(p_user)
$$;

-- The drops of which a user is shown a hold, in the order shown.
create function pg_temp.shown_to(p_user text) returns text[] language sql stable as $$
  select array_agg(d.name order by m.place)
  from (select row_number() over () as place, drop_id from api.my_reservations(pg_temp.user_id(p_user))) m
  join inventory.drops d on d.id = m.drop_id
$$;

-- Ann's holds on the third and the fourth drop are as old as each other: then the id decides.
create function pg_temp.third_and_fourth() returns text[] language sql stable as $$
  select array_agg(name order by pg_temp.reservation_id(name, 'ann') desc) from unnest(array['third', 'fourth']) as name
$$;

do $$
begin
  perform api.ensure_user(pg_temp.user_id(name)) from unnest(array['seller', 'ann', 'bob', 'cat']) as name;
  perform api.create_drop(name, 10, 5, pg_temp.user_id('seller'), now() - interval '1 hour')
  from unnest(array['first', 'second', 'third', 'fourth', 'expired', 'cancelled', 'consumed']) as name;
  perform api.reserve(id, pg_temp.user_id('ann')) from inventory.drops where created_by = pg_temp.user_id('seller');
  perform api.reserve(pg_temp.drop_id('first'), pg_temp.user_id('bob'), null, 90);
  update inventory.reservations
  set created_at = now() - interval '2 hours', updated_at = now() - interval '1 hour'
  where id = pg_temp.reservation_id('first', 'bob');
end
$$;

select is(
  (select array_agg(key) from api.my_reservations(pg_temp.user_id('bob')) m, json_object_keys(to_json(m)) as key),
  array['id', 'drop_id', 'user_id', 'status', 'expires_at', 'createdAt', 'updatedAt'],
  'The row has the names of the wire.'
);
select results_eq(
  $$select * from api.my_reservations(pg_temp.user_id('bob'))$$,
  $$
    values (
      pg_temp.reservation_id('first', 'bob'), pg_temp.drop_id('first'), pg_temp.user_id('bob'), 'ACTIVE',
      now() + interval '90 seconds', now() - interval '2 hours', now() - interval '1 hour')
  $$,
  'A user is shown his hold, and nobody else''s.'
);
select is_empty($$select * from api.my_reservations(pg_temp.user_id('cat'))$$, 'Who holds nothing is shown nothing.');

-- Rows of one transaction have one time, so they are given their own.
do $$
begin
  update inventory.reservations r
  set created_at = now() - v.age
  from (values
    ('first', interval '1 minute'), ('second', '3 minutes'), ('third', '2 minutes'), ('fourth', '2 minutes'),
    ('expired', '4 minutes'),
    ('cancelled', '4 minutes'), ('consumed', '4 minutes')
  ) as v (name, age)
  where r.id = pg_temp.reservation_id(v.name, 'ann');
  update inventory.reservations set expires_at = now() - interval '1 second' where id = pg_temp.reservation_id('expired', 'ann');
  perform api.expire_reservations(1000000);
  perform api.cancel_reservation(pg_temp.reservation_id('cancelled', 'ann'), pg_temp.user_id('ann'));
  perform api.purchase(pg_temp.drop_id('consumed'), pg_temp.user_id('ann'));
end
$$;

select is(
  pg_temp.shown_to('ann'), array['first'] || pg_temp.third_and_fourth() || array['second'],
  'The newest hold comes first, of two as old the greater id; what expired, was cancelled or consumed is no hold.'
);

do $$
begin
  update inventory.reservations set expires_at = now() where id = pg_temp.reservation_id('first', 'ann');
  update inventory.reservations set expires_at = now() + interval '1 microsecond'
  where id = pg_temp.reservation_id('second', 'ann');
end
$$;
select is(
  pg_temp.shown_to('ann'), pg_temp.third_and_fourth() || array['second'],
  'A hold that runs out at this moment is not shown, though it is not marked yet; one with a microsecond left is.'
);
select is(
  (select status from inventory.reservations where id = pg_temp.reservation_id('first', 'ann')), 'ACTIVE',
  'Looking changes nothing.'
);

do $$ begin perform api.update_drop(pg_temp.drop_id('second'), '{"status": "ended"}'); end $$;
select is(
  pg_temp.shown_to('ann'), pg_temp.third_and_fourth() || array['second'],
  'A hold on a drop that has ended is shown: it can be purchased.'
);

select throws_ok(
  $$select api.my_reservations(pg_temp.user_id('nobody'))$$, 'PT401', 'AUTH_REQUIRED', 'An unknown user is refused.'
);
select throws_ok($$select api.my_reservations(null)$$, 'PT401', 'AUTH_REQUIRED', 'No user is refused.');

select * from finish();
rollback;
