-- A reserve takes back holds that have run out: their units go to the first in line, and no live hold is touched.
begin;
select plan(16);

do $$
begin
  perform pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan', 'eve');
  perform pg_temp.make_drop(name, 3) from unnest(array['due', 'moment', 'oldest', 'plenty', 'own', 'over', 'last']) as name;
  perform pg_temp.hold(name, 'ann', 'bob', 'cat') from unnest(array['due', 'moment', 'oldest', 'over', 'last']) as name;
  perform pg_temp.hold('plenty', 'ann');
  perform api.reserve(pg_temp.drop_id('own'), pg_temp.user_id('ann'), 'key');
  perform pg_temp.hold('own', 'bob');
  perform pg_temp.let_run_out('own', 'bob', now() - interval '1 hour');
  perform pg_temp.let_run_out('due', 'bob');
  perform pg_temp.let_run_out('moment', 'bob', now() + interval '1 microsecond');
  perform pg_temp.let_run_out('oldest', 'ann', now() - interval '1 second');
  perform pg_temp.let_run_out('oldest', 'bob', now() - interval '3 seconds');
  perform pg_temp.let_run_out('oldest', 'cat', now() - interval '2 seconds');
  perform pg_temp.let_run_out(name, 'ann') from unnest(array['plenty', 'own', 'over']) as name;
  perform api.update_drop(pg_temp.drop_id('over'), '{"status": "ended"}');
  -- The last drop's reservations that are over are older than its due hold: ann's was sold, bob's cancelled, cat's first one has
  -- expired. It is sold out: one unit is sold and two are held.
  perform api.purchase(pg_temp.drop_id('last'), pg_temp.user_id('ann'));
  perform api.cancel_reservation(pg_temp.hold_id('last', 'bob'), pg_temp.user_id('bob'));
  perform pg_temp.let_run_out('last', 'cat');
  perform pg_temp.hold('last', 'cat');
  update inventory.reservations set expires_at = now() - interval '1 hour'
  where drop_id = pg_temp.drop_id('last') and status <> 'ACTIVE';
  perform pg_temp.hold('last', 'dan');
  perform pg_temp.let_run_out('last', 'dan');
end
$$;

select is(pg_temp.stock_of('last'), 0, 'The last drop is sold out.');
select is(pg_temp.reserve_all(v.drop_name, variadic v.users), v.expected, v.description)
from (values
  ('due', array['dan', 'eve'], array[null, 'OUT_OF_STOCK'],
    'When stock is short a hold that runs out at this moment gives its unit to the first in line.'),
  ('moment', array['dan'], array['OUT_OF_STOCK'], 'A hold with a microsecond left keeps its unit.'),
  ('oldest', array['dan', 'eve'], array[null, null], 'Two due holds serve two requests.'),
  ('last', array['eve'], array[null], 'A due hold is found behind reservations that have been over for long.'),
  ('plenty', array['bob', 'cat'], array[null, null], 'While stock lasts all are served.'),
  ('over', array['ann', 'dan'], array['DROP_NOT_ACTIVE', 'DROP_NOT_ACTIVE'], 'A due hold does not reopen a drop that is over.')
) as v (drop_name, users, expected, description);
select is(pg_temp.statuses_on(v.drop_name), v.expected, v.description)
from (values
  ('due', array['ann ACTIVE', 'bob EXPIRED', 'cat ACTIVE', 'dan ACTIVE'], 'The due hold is EXPIRED, others are not.'),
  ('oldest', array['ann ACTIVE', 'bob EXPIRED', 'cat EXPIRED', 'dan ACTIVE', 'eve ACTIVE'],
    'As many due holds are taken back as there are requests, the oldest first.'),
  ('last', array['ann CONSUMED', 'bob CANCELLED', 'cat ACTIVE', 'cat EXPIRED', 'dan EXPIRED', 'eve ACTIVE'],
    'What is over stays as it is.'),
  ('plenty', array['ann EXPIRED', 'bob ACTIVE', 'cat ACTIVE'],
    'A due hold is taken back even while stock lasts, because a sweep passes a busy drop over.')
) as v (drop_name, expected, description);
select is(
  (select updated_at from inventory.reservations where drop_id = pg_temp.drop_id('due') and status = 'EXPIRED'), now(),
  'A hold that is taken back says that it changed.'
);

-- A user's own hold that ran out. Bob's is older, so ann's goes only because it is in the way.

select results_eq(
  $$
    select r.status, r.replayed
    from (values ('key'), ('other')) as v (key), api.reserve(pg_temp.drop_id('own'), pg_temp.user_id('ann'), v.key) r
  $$,
  $$values ('EXPIRED', true), ('ACTIVE', false)$$,
  'The key of a hold that has run out shows it EXPIRED, and another key gets a new hold, even when stock is plenty.'
);
select is(pg_temp.statuses_on('own'), array['ann ACTIVE', 'ann EXPIRED', 'bob EXPIRED'], 'The old hold is EXPIRED, the new one ACTIVE.');
select pg_temp.let_run_out('own', 'ann', now() + interval '1 microsecond');
select is(
  pg_temp.reserve_all('own', 'ann'), array['ALREADY_RESERVED'], 'The user''s own hold with a microsecond left is an obstacle.'
);
select is_empty('select * from pg_temp.findings()', 'No unit was lost or made up on the way.');

select * from finish();
rollback;
