-- The batches of 0.1 answer as those of 0.2 do, because processes of 0.1 call them during a rolling deployment. This file goes
-- with them in 0.3.
begin;
select plan(14);

do $$
begin
  perform pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan', 'eve');
  perform api.create_drop(name, 10, 2, pg_temp.user_id('seller'), now() - interval '1 hour')
  from unnest(array['shoes', 'hats']) as name;
end
$$;

select results_eq(
  $$
    select n, status, code, replayed
    from api.reserve_batch(pg_temp.drop_id('shoes'), pg_temp.user_ids('ann', 'ann', 'nobody', 'bob', 'cat'), array['a', 'a'], 90)
  $$,
  $$
    values
      (1, 201, null, false), (2, 200, null, true), (3, 401, 'AUTH_REQUIRED', false), (4, 201, null, false),
      (5, 409, 'OUT_OF_STOCK', false)
  $$,
  'reserve_batch of one drop: one outcome a request, in their order; there may be fewer keys than requests.'
);
select results_eq(
  $$
    select user_id, idempotency_key, expires_at
    from inventory.reservations where drop_id = pg_temp.drop_id('shoes') order by id
  $$,
  $$
    values
      (pg_temp.user_id('ann'), 'a', now() + interval '90 seconds'), (pg_temp.user_id('bob'), null, now() + interval '90 seconds')
  $$,
  'Each hold has its own key or none, and expires when asked.'
);
select is(
  (select (data ->> 'expires_at')::timestamptz from api.reserve_batch(pg_temp.drop_id('hats'), pg_temp.user_ids('dan'), null)),
  now() + interval '60 seconds', 'Without an array of keys there are no keys, and a hold lasts a minute unless told.'
);
select results_eq(
  $$
    select n, status, code
    from api.reserve_batches(
      array[pg_temp.drop_id('shoes'), pg_temp.drop_id('hats'), null], pg_temp.user_ids('dan', 'ann', 'ann'), array[null, 'x'], 90)
  $$,
  $$values (1, 409, 'OUT_OF_STOCK'), (2, 201, null), (3, 404, 'DROP_NOT_FOUND')$$,
  'reserve_batches: the same for several drops.'
);
select results_eq(
  $$
    select n, status, code, replayed
    from api.purchase_batch(pg_temp.drop_id('shoes'), pg_temp.user_ids('ann', 'ann', 'cat'), array['p', 'p'])
  $$,
  $$values (1, 201, null, false), (2, 200, null, true), (3, 409, 'NO_ACTIVE_RESERVATION', false)$$,
  'purchase_batch of one drop.'
);
select results_eq(
  $$
    select n, status, code
    from api.purchase_batches(
      array[pg_temp.drop_id('hats'), pg_temp.drop_id('shoes'), pg_temp.drop_id('hats')],
      pg_temp.user_ids('ann', 'cat', 'bob'), null)
  $$,
  $$values (1, 201, null), (2, 409, 'NO_ACTIVE_RESERVATION'), (3, 409, 'NO_ACTIVE_RESERVATION')$$,
  'purchase_batches: the same for several drops.'
);
select results_eq(
  $$
    select n, status, code
    from api.cancel_batch(
      array(select r.id from inventory.reservations r
        where r.drop_id in (pg_temp.drop_id('shoes'), pg_temp.drop_id('hats')) and r.status = 'ACTIVE' order by r.user_id),
      array(select r.user_id from inventory.reservations r
        where r.drop_id in (pg_temp.drop_id('shoes'), pg_temp.drop_id('hats')) and r.status = 'ACTIVE' order by r.user_id)
        || array[pg_temp.user_id('eve')])
  $$,
  $$values (1, 200, null), (2, 200, null), (3, 404, 'RESERVATION_NOT_FOUND')$$,
  'cancel_batch, of any drops.'
);
select is(
  (select count(*) from api.ensure_user_batch(array[md5('pgtap old 1')::uuid, pg_temp.user_id('ann')], array['pgtap old 1']) o),
  1::bigint, 'ensure_user_batch answers one row of nothing.'
);
select is(
  (select u.username from inventory.users u where u.id = md5('pgtap old 1')::uuid), 'pgtap old 1', 'It makes the users.'
);
select is(
  pg_temp.refusal($$
    select api.ensure_user_batch(array[md5('pgtap old 2'), md5('pgtap old 3')]::uuid[], array['pgtap old 2', ''])
  $$),
  'PT400 VALIDATION_ERROR: username: must be 1 to 200 characters, not all invisible, without control characters or changes of text direction',
  'What is refused for one user is raised for the call.'
);
select is_empty($$select from inventory.users where id = md5('pgtap old 2')::uuid$$, 'Then nobody is made.');
select lives_ok($$select api.ensure_user_batch('{}', '{}')$$, 'A call for nobody does nothing.');
select is_empty(
  $$
    select * from api.reserve_batches(null, null, null) union all select * from api.purchase_batches(null, null, null)
    union all select * from api.reserve_batch(gen_random_uuid(), '{}', null)
    union all select * from api.purchase_batch(gen_random_uuid(), '{}', null) union all select * from api.cancel_batch('{}', '{}')
  $$,
  'A batch of nothing answers nothing.'
);
select is_empty(
  $$
    select a.* from api.audit() a join inventory.drops d on d.id = a.drop_id where d.created_by = pg_temp.user_id('seller')
  $$,
  'No unit was lost or made up on the way.'
);

select * from finish();
rollback;
