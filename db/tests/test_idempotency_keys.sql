-- A rare request (api.create_drop, api.create_user) counts once for each user and Idempotency-Key, until the key is pruned.
begin;
select plan(20);

select pg_temp.make_users('seller', 'other');

-- The id of a drop that a seller makes with this key.
create function pg_temp.drop_with(p_key text, p_price numeric default 10, p_seller text default 'seller') returns uuid
language sql as $$
  select id from api.create_drop('shoes', p_price, 5, pg_temp.user_id(p_seller), '2020-01-01 00:00Z', p_idempotency_key => p_key)
$$;
create function pg_temp.count_of_drops() returns bigint language sql as $$
  select count(*) from inventory.drops d where d.created_by = pg_temp.user_id('seller')
$$;

create temp table first on commit drop as select pg_temp.drop_with('k') as id;
select is(pg_temp.drop_with('k'), (select id from first), 'The same request with the same key returns the first drop.');
select is(pg_temp.drop_with('k', 10.000), (select id from first), 'A price with more zeros is the same price.');
set local timezone = 'Asia/Kolkata';
select is(pg_temp.drop_with('k'), (select id from first), 'A time is the same in every time zone of the session.');
set local timezone = 'UTC';
select is(pg_temp.count_of_drops(), 1::bigint, 'One drop was made.');
select is(
  pg_temp.refusal($$select pg_temp.drop_with('k', 11)$$), pg_temp.error('IDEMPOTENCY_KEY_REUSED'),
  'Another request with the key is refused.'
);
select is(
  pg_temp.refusal($$select pg_temp.drop_with(E'k\n')$$),
  pg_temp.error('VALIDATION_ERROR', 'Idempotency-Key: must be 1 to 255 visible ASCII characters'), 'A bad key is refused.'
);
select isnt(pg_temp.drop_with('k', 11, 'other'), (select id from first), 'Another seller''s key is another one.');
select isnt(pg_temp.drop_with(null), pg_temp.drop_with(null), 'Without a key each request counts.');
select is(
  pg_temp.refusal($$select api.create_drop('shoes', 10, 0, pg_temp.user_id('seller'), p_idempotency_key => 'refused')$$),
  pg_temp.error('VALIDATION_ERROR', 'total_stock: must be 1 or more'), 'A request may be refused.'
);
select isnt(pg_temp.drop_with('refused'), null, 'Then its key is free.');

-- What the service calls. A replay is the request of another transaction, so the key is given to one.
select results_eq(
  $$
    select status, replayed, data ->> 'name'
    from api.create_drop_from_json('{"name": "tickets", "price": 1, "total_stock": 2}', pg_temp.user_id('seller'), 'json')
  $$,
  $$values (201, false, 'tickets')$$, 'The service is told that the drop is new.'
);
update inventory.idempotency_keys set transaction_id = '1' where key = 'json';
select results_eq(
  $$
    select status, replayed, data ->> 'name'
    from api.create_drop_from_json('{"name": "tickets", "price": 1, "total_stock": 2}', pg_temp.user_id('seller'), 'json')
  $$,
  $$values (200, true, 'tickets')$$, 'And that it is a replay.'
);

select is(
  (select id from api.create_user('pgtap retried', 'k')), (select id from api.create_user('pgtap retried', 'k')),
  'A user is made once.'
);
select is(
  pg_temp.refusal($$select api.create_user('pgtap retried twice', 'k')$$), pg_temp.error('IDEMPOTENCY_KEY_REUSED'),
  'A key of another user''s name is refused; no seller''s key is in the way.'
);
select is(
  pg_temp.refusal($$select api.create_user('pgtap retried')$$), pg_temp.error('USERNAME_TAKEN'), 'Without the key the name is taken.'
);
select is((select status from api.create_user_outcome('pgtap retried', 'k')), 201, 'The service is told that the user is new.');

select is(
  pg_temp.refusal(format('select api.prune_idempotency_keys(%s)', seconds)),
  pg_temp.error('VALIDATION_ERROR', 'p_retention_seconds: must be 0 or more'), 'A retention that makes no sense is refused.'
)
from unnest(array['null', '-1']) as seconds;
update inventory.idempotency_keys set created_at = now() - interval '1 day 1 second' where key = 'k' and user_id is not null;
select is(api.prune_idempotency_keys(86400) >= 2, true, 'Old keys are pruned.');
select isnt(pg_temp.drop_with('k'), (select id from first), 'A pruned key counts anew.');

select * from finish();
rollback;
