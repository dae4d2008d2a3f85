-- api.ensure_user_batch does for many what api.ensure_user does for one: one outcome each.
begin;
select plan(9);

create or replace function pg_temp.user_id(p_name text) returns uuid language sql immutable as $$
  select md5('pgtap ensure_user_batch ' || p_name)::uuid
$$;
create function pg_temp.made(variadic p_names text[]) returns setof text language sql as $$
  select u.username from unnest(p_names) with ordinality as q (name, n)
  join inventory.users u on u.id = pg_temp.user_id(q.name) order by q.n
$$;

do $$ begin perform api.ensure_user(pg_temp.user_id('ann'), 'pgtap batch ann'); end $$;

create temp table outcome on commit drop as
select row_number() over () as place, o.*
from api.ensure_user_batch(array[
  row(pg_temp.user_id('cat'), 'pgtap batch cat'),
  row(pg_temp.user_id('ann'), 'another name'),
  row(pg_temp.user_id('bob'), null),
  row(pg_temp.user_id('cat'), 'pgtap batch cat'),
  row(pg_temp.user_id('dan'), 'pgtap batch ann')]::api.user_request[]) o;
select results_eq(
  $$select place::integer, n, status, code, message, replayed from outcome order by place$$,
  $$
    values
      (1, 1, 201, null::text, null::text, false), (2, 2, 200, null, null, false), (3, 3, 201, null, null, false),
      (4, 4, 200, null, null, false), (5, 5, 201, null, null, false)
  $$,
  'Every request has one outcome, in the order of the requests: the user was made now, or was there.'
);
select results_eq(
  $$select n, data ->> 'id' = u.id::text, (json_populate_record(null::api."user", data)).username = u.username
    from outcome left join inventory.users u on u.id = (data ->> 'id')::uuid where code is null order by n$$,
  $$select n, true, true from generate_series(1, 5) as n$$,
  'The data is the user.'
);
select results_eq(
  $$select * from pg_temp.made('ann', 'bob', 'cat')$$,
  array['pgtap batch ann', 'user-' || left(pg_temp.user_id('bob')::text, 8), 'pgtap batch cat'],
  'A user who is there stays as he is; one who is not gets the name given, or the default one.'
);
select matches((select * from pg_temp.made('dan')), '^pgtap batch ann-[0-9a-f]{8}$', 'A name that is taken gets a suffix.');
select is(current_setting('lock_timeout'), '0', 'How long the transaction waits for locks is what it was.');
select is(
  pg_temp.refusal($$
    select api.ensure_user_batch(array[row(pg_temp.user_id('eve'), 'pgtap eve'), row(pg_temp.user_id('fay'), '')]::api.user_request[])
  $$),
  'PT400 VALIDATION_ERROR: username: must be 1 to 200 characters, not all invisible, without control characters or changes of text direction',
  'What is refused for one user is raised for the call.'
);
select is_empty($$select * from pg_temp.made('eve', 'fay')$$, 'Then nobody is made.');
select is_empty($$select * from api.ensure_user_batch('{}')$$, 'A batch of nothing answers nothing.');
select is_empty($$select * from api.ensure_user_batch(null)$$, 'A batch that is null answers nothing.');

select * from finish();
rollback;
