-- A reserve takes all the units that it asks for or none, and what a drop's terms say: a limit for each user, a wait after a hold
-- that lapsed, how long holds last, and whether the sale is paused.
begin;
select plan(51);

select pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan');

-- Requests "user qty" or "user qty variant", with a key after that; the code that each is answered.
create function pg_temp.asked(p_drop text, variadic p_requests text[]) returns text[] language sql as $$
  select array_agg(coalesce(o.code, o.status::text) order by o.n)
  from api.reserve_batch(array(
    select row(
      pg_temp.drop_id(p_drop), pg_temp.user_id(split_part(r, ' ', 1)), nullif(split_part(r, ' ', 4), ''),
      pg_temp.variant_id(p_drop, nullif(split_part(r, ' ', 3), '')), split_part(r, ' ', 2)::integer)::api.reserve_request
    from unnest(p_requests) with ordinality as u (r, n)
    order by u.n)) o
$$;

-- All or nothing.

select pg_temp.make_drop('shoes', 5);
select results_eq(
  $$select qty, unit_price, amount from api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'key', p_qty => 3)$$,
  'values (3, 10.00, 30.00)', 'Three units are held at once.'
);
select is(pg_temp.stock_of('shoes'), 2, 'They are taken from stock.');
select is(
  pg_temp.reserving('shoes', 'bob', 3), pg_temp.error('OUT_OF_STOCK', 'Only 2 left of what you asked for.'),
  'Three of two are refused, and the refusal says how many are left.'
);
select is(pg_temp.stock_of('shoes'), 2, 'None of them is taken.');
select is(
  pg_temp.asked('shoes', 'bob 3', 'cat 2', 'dan 1'), array['OUT_OF_STOCK', '201', 'OUT_OF_STOCK'],
  'A later request for less is served in the same call.'
);
select is(
  (select o.message from api.reserve_batch(array[
    row(pg_temp.drop_id('shoes'), pg_temp.user_id('dan'), null, null, 1)]::api.reserve_request[]) o),
  'Every unit of this drop is held or sold. A unit comes back when a hold expires or is cancelled.',
  'When none is left the general sentence says so.'
);
select is(
  pg_temp.reserving('shoes', 'dan', v.qty), pg_temp.error('VALIDATION_ERROR', 'qty: must be 1 or more'), v.description
)
from (values (0, 'No units are refused.'), (-1, 'So is a negative number.')) as v (qty, description);
select results_eq(
  $$select qty, amount, status from api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'))$$, $$values (3, 30.00,
    'paid')$$,
  'A purchase is of all the units of the hold.'
);
do $$ begin perform api.refund_purchase(pg_temp.purchase_id('shoes', 'ann')); end $$;
select is(pg_temp.stock_of('shoes'), 3, 'A refund gives all of them back.');
do $$ begin perform api.cancel_reservation(pg_temp.hold_id('shoes', 'cat'), pg_temp.user_id('cat')); end $$;
select is(pg_temp.stock_of('shoes'), 5, 'So does a cancel.');
do $$ begin perform pg_temp.reserving('shoes', 'bob', 5); end $$;
select pg_temp.let_run_out('shoes', 'bob');
select is(pg_temp.asked('shoes', 'cat 4'), array['201'], 'A hold that ran out serves another of fewer units.');
select is(pg_temp.stock_of('shoes'), 1, 'What is over is stock.');
select is(
  pg_temp.asked('shoes', 'ann 2147483647', 'bob 2147483647', 'dan 1'), array['OUT_OF_STOCK', 'OUT_OF_STOCK', '201'],
  'The greatest numbers are refused and disturb no other.'
);

-- Keys.

select pg_temp.make_sizes('keys');
select is(
  pg_temp.asked('keys', 'ann 2 M k', 'ann 2 M k', 'ann 1 M k', 'ann 2 S k', 'bob 1 S k', 'bob 1 S'),
  array['201', '200', 'IDEMPOTENCY_KEY_REUSED', 'IDEMPOTENCY_KEY_REUSED', '201', 'ALREADY_RESERVED'],
  'In one call a key is repeated with the same request only.'
);
select is(
  pg_temp.asked('keys', 'ann 2 M k', 'ann 3 M k', 'ann 2 S k'), array['200', 'IDEMPOTENCY_KEY_REUSED', 'IDEMPOTENCY_KEY_REUSED'],
  'So it is in a later one.'
);
select is(
  pg_temp.asked('keys', 'cat 1 S', 'cat 1 M', 'cat 1 M other'), array['201', '201', 'ALREADY_RESERVED'],
  'Several requests of one user for several variants come one after the other.'
);

-- The limit.

select pg_temp.make_sizes(
  'limited', '{"limit_per_user": 3}', '[{"name": "S", "total_stock": 2}, {"name": "M", "total_stock": 9}]');
select is(
  pg_temp.reserving('limited', 'ann', 4, 'M'),
  pg_temp.error('LIMIT_EXCEEDED', 'You may have 3 of this drop, and you hold or have bought 0.'),
    'More than the limit is refused.'
);
select is(
  pg_temp.asked('limited', 'ann 2 M', 'ann 2 S', 'ann 1 S', 'bob 3 M'), array['201', 'LIMIT_EXCEEDED', '201', '201'],
  'The limit is over all variants, and for each user.'
);
do $$
begin
  perform api.purchase(r.drop_id, r.user_id, null, r.id) from inventory.reservations r
  where r.drop_id = pg_temp.drop_id('limited') and r.variant_id = pg_temp.variant_id('limited', 'M');
  perform api.cancel_reservation(r.id, r.user_id) from inventory.reservations r
  where r.drop_id = pg_temp.drop_id('limited') and r.status = 'ACTIVE';
end
$$;
select is(
  pg_temp.reserving('limited', 'ann', 2, 'S'),
  pg_temp.error('LIMIT_EXCEEDED', 'You may have 3 of this drop, and you hold or have bought 2.'),
  'What was bought counts, what was cancelled does not; the refusal says what one has.'
);
select is(pg_temp.reserving('limited', 'ann', 1, 'S'), 'nothing was raised', 'Up to the limit one is served.');
select pg_temp.let_run_out('limited', 'ann');
select is(pg_temp.asked('limited', 'ann 1 S'), array['201'], 'A hold that ran out does not count.');
do $$ begin perform api.refund_purchase(pg_temp.purchase_id('limited', 'bob')); end $$;
select is(pg_temp.asked('limited', 'bob 3 M'), array['201'], 'Nor does a purchase that was refunded.');
select is(
  pg_temp.asked('limited', 'bob 2147483647 S'), array['LIMIT_EXCEEDED'], 'The greatest number is above every limit.'
);
do $$ begin perform api.update_drop(pg_temp.drop_id('limited'), '{"limit_per_user": 1}'); end $$;
select is(pg_temp.asked('limited', 'ann 1 M', 'cat 1 M'), array['LIMIT_EXCEEDED', '201'],
  'A limit that is lowered takes nothing back, and counts for what comes.');
do $$ begin perform api.update_drop(pg_temp.drop_id('limited'), '{"limit_per_user": null}'); end $$;
select is(pg_temp.asked('limited', 'ann 1 M'), array['201'], 'A limit may go.');

-- The wait after a hold that lapsed.

select pg_temp.make_sizes('waiting', '{"rehold_after_seconds": 60}');

-- Let what a user let go on the drop be so many seconds older.
create function pg_temp.age_holds(p_user text, p_seconds integer, p_variant text) returns void language sql as $$
  update inventory.reservations r
  set updated_at = r.updated_at - make_interval(secs => p_seconds), expires_at = r.expires_at - make_interval(secs => p_seconds)
  where r.drop_id = pg_temp.drop_id('waiting') and r.user_id = pg_temp.user_id(p_user)
    and r.variant_id = pg_temp.variant_id('waiting', p_variant)
$$;

-- Cancel a user's hold of a variant.
create function pg_temp.let_go(p_user text, p_variant text) returns void language sql as $$
  select api.cancel_reservation(r.id, r.user_id) from inventory.reservations r
  where r.drop_id = pg_temp.drop_id('waiting') and r.user_id = pg_temp.user_id(p_user) and r.status = 'ACTIVE'
    and r.variant_id = pg_temp.variant_id('waiting', p_variant)
$$;

do $$
begin
  perform pg_temp.reserving('waiting', 'ann', 1, 'S');
  perform pg_temp.reserving('waiting', 'ann', 1, 'M');
  perform pg_temp.reserving('waiting', 'bob', 1, 'S');
  perform pg_temp.let_go('ann', 'M');
  perform pg_temp.let_run_out('waiting', 'bob', now() - interval '20 seconds');
end
$$;
select is(
  pg_temp.reserving('waiting', 'ann', 1, 'M'),
  pg_temp.error('RESERVED_TOO_SOON', 'You let a hold of this drop go. You may hold units again in 60 seconds.'),
  'A user who cancelled waits, and is told how long.'
);
select is(
  pg_temp.reserving('waiting', 'bob', 1, 'M'),
  pg_temp.error('RESERVED_TOO_SOON', 'You let a hold of this drop go. You may hold units again in 40 seconds.'),
  'So does one whose hold ran out, from then on, whether or not it was taken back; the wait is for all variants.'
);
select is(pg_temp.asked('waiting', 'cat 1 S'), array['201'], 'Others do not wait, and get the unit.');
do $$ begin perform pg_temp.age_holds('ann', 60, 'M'); end $$;
do $$ begin perform pg_temp.let_go('ann', 'S'); end $$;
select is(
  pg_temp.asked('waiting', 'ann 1 S'), array['RESERVED_TOO_SOON'],
  'The hold that lapsed last counts, though a newer one lapsed before it.'
);
do $$ begin perform pg_temp.age_holds('ann', 60, 'S'); end $$;
select is(pg_temp.asked('waiting', 'ann 1 S'), array['201'], 'When the time is over one may hold again.');
select pg_temp.make_drop('no wait');
select pg_temp.hold('no wait', 'ann');
do $$ begin perform api.cancel_reservation(pg_temp.hold_id('no wait', 'ann'), pg_temp.user_id('ann')); end $$;
select is(pg_temp.asked('no wait', 'ann 1'), array['201'], 'Without the term nobody waits.');

-- How long holds last.

select pg_temp.make_drop_with('long', '{"hold_seconds": 600}');
select is(
  (select expires_at - now() from api.reserve(pg_temp.drop_id('long'), pg_temp.user_id('ann'), null, 60)), interval '600 seconds',
  'The drop says how long a hold lasts.'
);
do $$ begin perform api.update_drop(pg_temp.drop_id('long'), '{"hold_seconds": null}'); end $$;
select is(
  (select expires_at - now() from api.reserve(pg_temp.drop_id('long'), pg_temp.user_id('bob'), null, 60)), interval '60 seconds',
  'If it does not, the caller does.'
);

-- Paused.

do $$ begin perform api.update_drop(pg_temp.drop_id('long'), '{"paused": true}'); end $$;
select is((select paused_at from api.get_drop(pg_temp.drop_id('long'))), now(), 'A paused drop says since when it is.');
select is(pg_temp.asked('long', 'cat 1', 'ann 1'), array['DROP_NOT_ACTIVE', 'DROP_NOT_ACTIVE'], 'It sells nothing.');
select is(
  (select status from api.purchase(pg_temp.drop_id('long'), pg_temp.user_id('ann'))), 'paid', 'Who holds a unit can have it.'
);
do $$
begin
  update inventory.drops set paused_at = now() - interval '1 hour' where id = pg_temp.drop_id('long');
  perform api.update_drop(pg_temp.drop_id('long'), '{"paused": true, "price": 12}');
end
$$;
select is(
  (select paused_at from api.get_drop(pg_temp.drop_id('long'))), now() - interval '1 hour', 'Paused again, it keeps its time.'
);
do $$ begin perform api.update_drop(pg_temp.drop_id('long'), '{"paused": false}'); end $$;
select is(pg_temp.asked('long', 'cat 1'), array['201'], 'Resumed, it sells again.');

-- Stock that is added, and terms that are refused.

select is(
  (select total_stock || ' ' || available_stock from api.update_drop(pg_temp.drop_id('long'), '{"add_stock": 2.00}')), '12 9',
  'Units are added to what there is.'
);
select is(
  (select total_stock || ' ' || available_stock from api.update_drop(pg_temp.drop_id('long'), '{"add_stock": -9}')), '3 0',
  'A negative number takes units away.'
);
select is(pg_temp.refusal_of_update('long', v.changes), v.expected, v.description)
from (values
  ('{"add_stock": -1}'::jsonb, 'PT409 STOCK_BELOW_COMMITTED: total_stock may not be less than the 3 units held and sold.',
    'Units that are held or sold are not taken away.'),
  ('{"add_stock": -3}', 'PT400 VALIDATION_ERROR: total_stock: must be 1 or more', 'A drop keeps a unit.'),
  ('{"add_stock": 2147483647}', 'PT400 VALIDATION_ERROR: total_stock: must be 2147483647 or less', 'It has no more than an integer.'),
  ('{"add_stock": 1.5}', 'PT400 VALIDATION_ERROR: add_stock: must be a whole number; a negative one takes units away',
    'Half a unit is none.'),
  ('{"add_stock": 1, "total_stock": 4}', 'PT400 VALIDATION_ERROR: add_stock: give it, total_stock or variants, one of the three',
    'Either of the two.'),
  ('{"paused": "yes"}', 'PT400 VALIDATION_ERROR: paused: must be a boolean', 'Paused is true or false.'),
  ('{"limit_per_user": 0}', 'PT400 VALIDATION_ERROR: limit_per_user: must be 1 or more', 'A limit of none is refused.'),
  ('{"rehold_after_seconds": null}', 'PT400 VALIDATION_ERROR: rehold_after_seconds: may not be null', 'No wait is 0.'),
  ('{"currency": "EUR"}', 'PT400 VALIDATION_ERROR: currency: is not a field that can be changed', 'The currency stays.')
) as v (changes, expected, description);
select is_empty('select * from pg_temp.findings()', 'No unit was lost or made up on the way.');

select * from finish();
rollback;
