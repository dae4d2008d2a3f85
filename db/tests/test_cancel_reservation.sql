-- api.cancel_reservation gives the unit of one hold back: only at its own user's wish, and only while it is a hold.
begin;
select plan(17);

select pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan', 'eve');
select pg_temp.make_drops('shoes');
select pg_temp.hold('shoes', 'ann', 'bob', 'cat', 'dan', 'eve');
update inventory.reservations set updated_at = now() - interval '1 day' where drop_id = pg_temp.drop_id('shoes');
select pg_temp.age_drops();

create temp table cancelled on commit drop as
select * from api.cancel_reservation(pg_temp.hold_id('shoes', 'ann'), pg_temp.user_id('ann'));

select results_eq(
  'table cancelled',
  $$
    values (
      pg_temp.hold_id('shoes', 'ann'), pg_temp.drop_id('shoes'), null::uuid, pg_temp.user_id('ann'), null::uuid, 1, 10.00, 'USD',
      10.00, 'CANCELLED', now() + interval '1 minute', null::timestamptz, now(), now())
  $$,
  'The reservation comes back CANCELLED, changed now.'
);
select results_eq(
  $$select * from pg_temp.stored_reservations() where id = pg_temp.hold_id('shoes', 'ann')$$, 'table cancelled',
  'What comes back is what is stored.'
);
select results_eq(
  'select available_stock, "updatedAt" from pg_temp.stored_drops()', 'values (6, now())',
  'Its unit is back in stock, and the drop says that it changed.'
);
select is(
  pg_temp.statuses_on('shoes'), array['ann CANCELLED', 'bob ACTIVE', 'cat ACTIVE', 'dan ACTIVE', 'eve ACTIVE'],
  'No other user''s hold is touched.'
);
create temp table ann_again on commit drop as
select * from api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'));
select is((select status from ann_again), 'ACTIVE', 'A user who cancelled may reserve again.');

-- Errors.

do $$
begin
  perform api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('bob'));
  perform pg_temp.let_run_out('shoes', 'cat');
  perform pg_temp.let_run_out('shoes', 'dan', now() + interval '1 microsecond');
end
$$;

select is(pg_temp.refusal(format('select api.cancel_reservation(%L, %L)', v.id, v.user_id)), pg_temp.error(v.code), v.description)
from (values
  (pg_temp.hold_id('shoes', 'bob'), pg_temp.user_id('bob'), 'RESERVATION_NOT_ACTIVE',
    'A reservation that was purchased cannot be cancelled.'),
  (pg_temp.hold_id('shoes', 'cat'), pg_temp.user_id('cat'), 'RESERVATION_EXPIRED',
    'A hold that runs out at this moment has expired.'),
  (pg_temp.hold_id('shoes', 'eve'), pg_temp.user_id('ann'), 'RESERVATION_NOT_FOUND', 'Another user''s reservation is not found.'),
  (pg_temp.hold_id('shoes', 'bob'), pg_temp.user_id('ann'), 'RESERVATION_NOT_FOUND', 'Whether it is still a hold stays private.'),
  (gen_random_uuid(), pg_temp.user_id('ann'), 'RESERVATION_NOT_FOUND', 'A reservation that does not exist is not found.'),
  (null, pg_temp.user_id('ann'), 'RESERVATION_NOT_FOUND', 'A null id is the id of no reservation.'),
  (pg_temp.hold_id('shoes', 'eve'), pg_temp.user_id('nobody'), 'AUTH_REQUIRED', 'An unknown user is refused.'),
  (pg_temp.hold_id('shoes', 'eve'), null, 'AUTH_REQUIRED', 'A null user is refused.'),
  (gen_random_uuid(), pg_temp.user_id('nobody'), 'AUTH_REQUIRED', 'An unknown user learns nothing about reservations.')
) as v (id, user_id, code, description);
select results_eq(
  $$select * from api.cancel_reservation((select id from cancelled), pg_temp.user_id('ann'))$$, 'table cancelled',
  'A reservation that is cancelled again comes back as it is, because a request may come twice.'
);
select is(
  (select status from api.cancel_reservation(pg_temp.hold_id('shoes', 'dan'), pg_temp.user_id('dan'))), 'CANCELLED',
  'A hold can be cancelled up to its last microsecond.'
);
select is_empty('select * from pg_temp.findings()', 'No unit was lost or made up on the way.');

select * from finish();
rollback;
