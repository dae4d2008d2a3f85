-- api.extend_reservation lets a hold end later: once, at its own user's wish, where the drop allows it.
begin;
select plan(15);

select pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan', 'eve');
select pg_temp.make_drops('shoes', 'bags');
do $$
begin
  perform api.update_drop(pg_temp.drop_id('shoes'), '{"extension_seconds": 45}');
  perform pg_temp.hold('shoes', 'ann', 'bob', 'cat', 'dan');
  perform pg_temp.hold('bags', 'ann', 'bob');
  perform pg_temp.let_run_out('shoes', 'ann', now() + interval '1 microsecond');
  perform pg_temp.let_run_out('shoes', 'bob');
  perform api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('cat'));
  perform api.cancel_reservation(pg_temp.hold_id('shoes', 'dan'), pg_temp.user_id('dan'));
end
$$;

create temp table extended on commit drop as
select * from api.extend_reservation(pg_temp.hold_id('shoes', 'ann'), pg_temp.user_id('ann'));
select results_eq(
  $$
    select r.id, r.status, r.expires_at, r.extended_at, r."updatedAt", e.replayed
    from extended e
    cross join lateral (select (e.reservation).*) r
  $$,
  $$values (pg_temp.hold_id('shoes', 'ann'), 'ACTIVE', now() + interval '45.000001 s', now(), now(), false)$$,
  'A hold of which a microsecond is left ends extension_seconds later than it would have.'
);
select results_eq(
  $$select reservation, replayed from api.extend_reservation(pg_temp.hold_id('shoes', 'ann'), pg_temp.user_id('ann'))$$,
  'select reservation, true from extended', 'A second time nothing changes.'
);
select is(pg_temp.stock_of('shoes'), 7, 'The stock stays as it is.');

select is(pg_temp.refusal(format('select api.extend_reservation(%L, %L)', v.id, v.user_id)), v.expected, v.description)
from (values
  (pg_temp.hold_id('bags', 'ann'), pg_temp.user_id('ann'), pg_temp.error('EXTENSION_NOT_ALLOWED'),
    'The drop decides whether holds can be extended.'),
  (pg_temp.hold_id('shoes', 'bob'), pg_temp.user_id('bob'), pg_temp.error('RESERVATION_EXPIRED'),
    'A hold that runs out at this moment has expired.'),
  (pg_temp.hold_id('shoes', 'cat'), pg_temp.user_id('cat'),
    pg_temp.error('RESERVATION_NOT_ACTIVE', 'This reservation was consumed, so it cannot be extended.'),
    'A purchase is no hold.'),
  (pg_temp.hold_id('shoes', 'dan'), pg_temp.user_id('dan'),
    pg_temp.error('RESERVATION_NOT_ACTIVE', 'This reservation was cancelled, so it cannot be extended.'),
    'What was cancelled is no hold.'),
  (pg_temp.hold_id('shoes', 'ann'), pg_temp.user_id('bob'), pg_temp.error('RESERVATION_NOT_FOUND'),
    'Another user''s reservation is not found.'),
  (gen_random_uuid(), pg_temp.user_id('ann'), pg_temp.error('RESERVATION_NOT_FOUND'), 'One that does not exist is not found.'),
  (null, pg_temp.user_id('ann'), pg_temp.error('RESERVATION_NOT_FOUND'), 'Nor is null.'),
  (pg_temp.hold_id('shoes', 'ann'), pg_temp.user_id('nobody'), pg_temp.error('AUTH_REQUIRED'), 'An unknown user is refused.')
) as v (id, user_id, expected, description);

select pg_temp.let_run_out('shoes', 'ann');
select is(
  pg_temp.refusal(format('select api.extend_reservation(%L, %L)', pg_temp.hold_id('shoes', 'ann'), pg_temp.user_id('ann'))),
  pg_temp.error('RESERVATION_EXPIRED'), 'A hold that was extended can run out.'
);
do $$ begin perform api.update_drop(pg_temp.drop_id('bags'), '{"extension_seconds": 10}'); end $$;
select is(
  (select (reservation).expires_at from api.extend_reservation(pg_temp.hold_id('bags', 'ann'), pg_temp.user_id('ann'))),
  now() + interval '70 s', 'A seller may allow it later.'
);
do $$ begin perform api.update_drop(pg_temp.drop_id('bags'), '{"status": "ended"}'); end $$;
select is(
  (select (reservation).expires_at from api.extend_reservation(pg_temp.hold_id('bags', 'bob'), pg_temp.user_id('bob'))),
  now() + interval '70 s', 'A hold outlives the sale, so it can be extended after its end.'
);
select is_empty('select * from pg_temp.findings()', 'No unit was lost or made up on the way.');

select * from finish();
rollback;
