-- api.my_reservations shows a user what the user can still purchase: the user's own ACTIVE holds that have not run out.
begin;
select plan(8);

-- The drops of which a user is shown a hold, in the order shown.
create function pg_temp.shown_to(p_user text) returns text[] language sql stable as $$
  select array_agg(d.name order by m.place)
  from (select row_number() over () as place, drop_id from api.my_reservations(pg_temp.user_id(p_user))) m
  join inventory.drops d on d.id = m.drop_id
$$;

-- Ann's holds on the third and the fourth drop are as old as each other: then the id decides.
create function pg_temp.third_and_fourth() returns text[] language sql stable as $$
  select array_agg(name order by pg_temp.hold_id(name, 'ann') desc) from unnest(array['third', 'fourth']) as name
$$;

do $$
begin
  perform pg_temp.make_users('seller', 'ann', 'bob', 'cat');
  perform pg_temp.make_drops('first', 'second', 'third', 'fourth', 'expired', 'cancelled', 'consumed');
  perform pg_temp.hold(name, 'ann') from pg_temp.stored_drops();
  perform api.reserve(pg_temp.drop_id('first'), pg_temp.user_id('bob'), null, 90);
  update inventory.reservations
  set created_at = now() - interval '2 hours', updated_at = now() - interval '1 hour'
  where id = pg_temp.hold_id('first', 'bob');
end
$$;

select results_eq(
  $$select * from api.my_reservations(pg_temp.user_id('bob'))$$,
  $$
    values (
      pg_temp.hold_id('first', 'bob'), pg_temp.drop_id('first'), null::uuid, pg_temp.user_id('bob'), null::uuid, 1, 10.00,
      'USD', 10.00, 'ACTIVE', now() + interval '90 seconds', null::timestamptz, now() - interval '2 hours',
      now() - interval '1 hour')
  $$,
  'A user is shown the user''s own hold, and no other user''s.'
);
select is_empty($$select * from api.my_reservations(pg_temp.user_id('cat'))$$, 'A user without holds is shown nothing.');

-- Rows of one transaction have one time, so they are given their own.
do $$
begin
  update inventory.reservations r
  set created_at = now() - v.age
  from (values
    ('first', interval '1 minute'), ('second', '3 minutes'), ('third', '2 minutes'), ('fourth', '2 minutes'),
    ('expired', '4 minutes'), ('cancelled', '4 minutes'), ('consumed', '4 minutes')
  ) as v (name, age)
  where r.id = pg_temp.hold_id(v.name, 'ann');
  perform pg_temp.let_run_out('expired', 'ann', now() - interval '1 second');
  perform api.expire_reservations(1000000);
  perform api.cancel_reservation(pg_temp.hold_id('cancelled', 'ann'), pg_temp.user_id('ann'));
  perform api.purchase(pg_temp.drop_id('consumed'), pg_temp.user_id('ann'));
end
$$;
select is(
  pg_temp.shown_to('ann'), array['first'] || pg_temp.third_and_fourth() || array['second'],
  'The newest hold comes first, of two as old the greater id; what expired, was cancelled or consumed is no hold.'
);

select pg_temp.let_run_out('first', 'ann');
select pg_temp.let_run_out('second', 'ann', now() + interval '1 microsecond');
select is(
  pg_temp.shown_to('ann'), pg_temp.third_and_fourth() || array['second'],
  'A hold that runs out at this moment is not shown, though it is not marked yet; one with a microsecond left is.'
);
select is(pg_temp.statuses_on('first'), array['ann ACTIVE', 'bob ACTIVE'], 'Looking changes nothing.');

do $$ begin perform api.update_drop(pg_temp.drop_id('second'), '{"status": "ended"}'); end $$;
select is(
  pg_temp.shown_to('ann'), pg_temp.third_and_fourth() || array['second'],
  'A hold on a drop that has ended is shown: it can be purchased.'
);
select is(pg_temp.refusal(format('select api.my_reservations(%L)', id)), pg_temp.error('AUTH_REQUIRED'), 'A stranger is refused.')
from unnest(array[pg_temp.user_id('nobody'), null]) as id;

select * from finish();
rollback;
