-- api.reserve_batch takes back holds that have run out: their units go to the first in line, and no live hold is touched.
begin;
select plan(17);

create function pg_temp.new_drop(p_name text, p_stock integer) returns void language sql as $$
  select api.create_drop(p_name, 10, p_stock, pg_temp.user_id('seller'), now() - interval '1 hour')
$$;

-- Reserve for these users, without keys; the codes they are answered, null for a unit.
create function pg_temp.reserve(p_drop text, variadic p_users text[]) returns text[] language sql as $$
  select array_agg(o.code order by o.n)
  from api.reserve_batch(pg_temp.drop_id(p_drop), pg_temp.user_ids(variadic p_users), null) o
$$;

-- Let holds run out, each so long ago; a negative time is still to come.
create function pg_temp.run_out(p_drop text, p_user text, p_ago interval default '0') returns void language sql as $$
  update inventory.reservations r
  set expires_at = now() - p_ago
  where r.drop_id = pg_temp.drop_id(p_drop) and r.user_id = pg_temp.user_id(p_user) and r.status = 'ACTIVE'
$$;

-- What became of all reservations on a drop, by user and status.
create function pg_temp.reservations_of(p_drop text) returns text[] language sql stable as $$
  select array_agg(u.name || ' ' || r.status order by u.name, r.status)
  from inventory.reservations r
  join unnest(array['ann', 'bob', 'cat', 'dan', 'eve', 'fay']) as u (name) on pg_temp.user_id(u.name) = r.user_id
  where r.drop_id = pg_temp.drop_id(p_drop)
$$;

do $$
begin
  perform api.ensure_user(pg_temp.user_id(name)) from unnest(array['seller', 'ann', 'bob', 'cat', 'dan', 'eve', 'fay']) as name;
end
$$;

do $$
begin
  perform pg_temp.new_drop(name, 3)
  from unnest(array['due', 'due in a moment', 'due, oldest first', 'due, plenty left', 'due, own', 'due, own key', 'due, over',
      'due, last of all']) as name;
  perform pg_temp.reserve(name, 'ann', 'bob', 'cat')
  from unnest(array['due', 'due in a moment', 'due, oldest first', 'due, over']) as name;
  perform pg_temp.reserve(name, 'ann') from unnest(array['due, plenty left', 'due, own']) as name;
  perform api.reserve_batch(pg_temp.drop_id('due, own key'), pg_temp.user_ids('ann'), array['key']);
end
$$;

do $$ begin perform pg_temp.run_out('due', 'bob'); end $$;
select is(
  pg_temp.reserve('due', 'dan', 'eve'), array[null, 'OUT_OF_STOCK'],
  'When stock is short a hold that runs out at this moment gives its unit to the first in line.'
);
select is(
  pg_temp.reservations_of('due'), array['ann ACTIVE', 'bob EXPIRED', 'cat ACTIVE', 'dan ACTIVE'],
  'That hold is EXPIRED, others are not.'
);
select is(
  (select updated_at from inventory.reservations where drop_id = pg_temp.drop_id('due') and status = 'EXPIRED'), now(),
  'It expired now.'
);

do $$ begin perform pg_temp.run_out('due in a moment', 'bob', '-1 microsecond'); end $$;
select is(
  pg_temp.reserve('due in a moment', 'dan'), array['OUT_OF_STOCK'], 'A hold with a microsecond left keeps its unit.'
);

do $$
begin
  perform pg_temp.run_out('due, oldest first', 'ann', '1 second');
  perform pg_temp.run_out('due, oldest first', 'bob', '3 seconds');
  perform pg_temp.run_out('due, oldest first', 'cat', '2 seconds');
end
$$;
select is(pg_temp.reserve('due, oldest first', 'dan', 'eve'), array[null, null]::text[], 'Two due holds serve two requests.');
select is(
  pg_temp.reservations_of('due, oldest first'), array['ann ACTIVE', 'bob EXPIRED', 'cat EXPIRED', 'dan ACTIVE', 'eve ACTIVE'],
  'As many due holds are taken back as there are requests, the oldest first.'
);

-- Reservations that are over are older still: ann's was sold, bob's cancelled, cat's first one has expired.
do $$
begin
  perform pg_temp.reserve('due, last of all', 'ann', 'bob', 'cat');
  perform api.purchase(pg_temp.drop_id('due, last of all'), pg_temp.user_id('ann'));
  perform api.cancel_reservation(id, user_id)
  from inventory.reservations where drop_id = pg_temp.drop_id('due, last of all') and user_id = pg_temp.user_id('bob');
  perform pg_temp.run_out('due, last of all', 'cat');
  perform pg_temp.reserve('due, last of all', 'cat');
  update inventory.reservations
  set expires_at = now() - interval '1 hour'
  where drop_id = pg_temp.drop_id('due, last of all') and status <> 'ACTIVE';
  perform pg_temp.reserve('due, last of all', 'dan');
  perform pg_temp.run_out('due, last of all', 'dan');
end
$$;
select is(pg_temp.stock_of('due, last of all'), 0, 'A drop is sold out: one unit is sold and two are held.');
select is(
  pg_temp.reserve('due, last of all', 'eve'), array[null]::text[],
  'A due hold is found behind reservations that have been over for long.'
);
select is(
  pg_temp.reservations_of('due, last of all'),
  array['ann CONSUMED', 'bob CANCELLED', 'cat ACTIVE', 'cat EXPIRED', 'dan EXPIRED', 'eve ACTIVE'],
  'What is over stays as it is.'
);

do $$ begin perform pg_temp.run_out('due, plenty left', 'ann'); end $$;
select is(
  pg_temp.reserve('due, plenty left', 'bob', 'cat'), array[null, null]::text[], 'While stock lasts all are served.'
);
select is(
  pg_temp.reservations_of('due, plenty left'), array['ann EXPIRED', 'bob ACTIVE', 'cat ACTIVE'],
  'A due hold is taken back all the same, for a sweep passes a busy drop over.'
);

do $$ begin perform pg_temp.run_out('due, own', 'ann'); end $$;
select is(
  pg_temp.reserve('due, own', 'ann', 'ann'), array[null, 'ALREADY_RESERVED'],
  'A user''s own due hold is no obstacle to his next one, even when stock is plenty.'
);
select is(
  pg_temp.reservations_of('due, own'), array['ann ACTIVE', 'ann EXPIRED'], 'His old hold is EXPIRED, his new one ACTIVE.'
);
do $$ begin perform pg_temp.run_out('due, own', 'ann', '-1 microsecond'); end $$;
select is(
  pg_temp.reserve('due, own', 'ann'), array['ALREADY_RESERVED'], 'His own hold with a microsecond left is an obstacle.'
);

do $$ begin perform pg_temp.run_out('due, own key', 'ann'); end $$;
select results_eq(
  $$
    select n, status, replayed, data ->> 'status'
    from api.reserve_batch(pg_temp.drop_id('due, own key'), pg_temp.user_ids('ann', 'ann'), array['key', 'other'])
  $$,
  $$values (1, 200, true, 'EXPIRED'), (2, 201, false, 'ACTIVE')$$,
  'The key of a hold that has run out shows it EXPIRED, and another key gets a new hold.'
);

do $$
begin
  perform pg_temp.run_out('due, over', 'ann');
  perform api.update_drop(pg_temp.drop_id('due, over'), '{"status": "ended"}');
end
$$;
select is(
  pg_temp.reserve('due, over', 'ann', 'dan'), array['DROP_NOT_ACTIVE', 'DROP_NOT_ACTIVE'],
  'A due hold does not reopen a drop that is over.'
);

select is_empty(
  $$
    select a.* from api.audit() a join inventory.drops d on d.id = a.drop_id
    where d.created_by = pg_temp.user_id('seller')
  $$,
  'No unit was lost or made up on the way.'
);

select * from finish();
rollback;
