-- api.ensure_user_batch makes of a crowd what api.ensure_user makes of each.
begin;
select plan(7);

create or replace function pg_temp.user_id(p_name text) returns uuid language sql immutable as $$
  select md5('pgtap ensure_user_batch ' || p_name)::uuid
$$;
create function pg_temp.ids(variadic p_names text[]) returns uuid[] language sql immutable as $$
  select array_agg(pg_temp.user_id(name) order by n) from unnest(p_names) with ordinality as u (name, n)
$$;
create function pg_temp.made(variadic p_names text[]) returns setof text language sql as $$
  select u.username from unnest(p_names) with ordinality as q (name, n)
  join inventory.users u on u.id = pg_temp.user_id(q.name) order by q.n
$$;

do $$ begin perform api.ensure_user(pg_temp.user_id('ann'), 'pgtap batch ann'); end $$;

select lives_ok(
  $$
    select api.ensure_user_batch(
      pg_temp.ids('cat', 'ann', 'bob', 'cat', 'dan'),
      array['pgtap batch cat', 'another name', null, 'pgtap batch cat', 'pgtap batch ann']
    )
  $$,
  'Users who are there, who are not, who are named twice, without a name, and with one that is taken are all served.'
);
select results_eq(
  $$select * from pg_temp.made('ann', 'bob', 'cat')$$,
  array['pgtap batch ann', 'user-' || left(pg_temp.user_id('bob')::text, 8), 'pgtap batch cat'],
  'Who is there stays as he is; who is not gets the name given, or the usual one.'
);
select matches((select * from pg_temp.made('dan')), '^pgtap batch ann-[0-9a-f]{8}$', 'A name that is taken gets a suffix.');
select is(current_setting('lock_timeout'), '0', 'How long the transaction waits for locks is what it was.');
select is(
  pg_temp.refusal($$select api.ensure_user_batch(pg_temp.ids('eve', 'fay'), array['pgtap batch eve', ''])$$),
  'PT400 VALIDATION_ERROR: username: must be 1 to 200 characters, not all blank, without control characters',
  'What is refused for one is refused for the call.'
);
select is_empty($$select * from pg_temp.made('eve', 'fay')$$, 'And nobody is made.');
select lives_ok($$select api.ensure_user_batch('{}', '{}')$$, 'Nobody is nothing to do.');

select * from finish();
rollback;
