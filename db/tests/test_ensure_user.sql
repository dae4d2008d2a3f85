-- api.ensure_user finds a user or makes him: an identity from elsewhere must be served on first use, whatever name it brings.
begin;
select plan(20);

create or replace function pg_temp.user_id(p_name text) returns uuid language sql immutable as $$
  select md5('pgtap ensure_user ' || p_name)::uuid
$$;
create function pg_temp.username(p_name text) returns text language sql immutable as $$ select 'pgtap ensure_user ' || p_name $$;

-- The name that a user gets who brings none.
create function pg_temp.default_name(p_name text) returns text language sql immutable as $$
  select 'user-' || left(pg_temp.user_id(p_name)::text, 8)
$$;

create temp table made on commit drop as select * from api.ensure_user(pg_temp.user_id('ann'), pg_temp.username('ann'));

select is(
  (select array_agg(key) from made, json_object_keys(to_json(made)) as key), array['id', 'username', 'createdAt', 'updatedAt'],
  'The row has the names of the wire.'
);
select is((select id from made), pg_temp.user_id('ann'), 'A user who is missing is made with the id asked for.');
select is((select username from made), pg_temp.username('ann'), 'He has the name given.');
select is((select array["createdAt", "updatedAt"] from made), array[now(), now()], 'He is made now.');
select results_eq(
  $$select id, username, created_at, updated_at from inventory.users where id = pg_temp.user_id('ann')$$,
  $$select id, username, "createdAt", "updatedAt" from made$$,
  'What comes back is what is stored.'
);

update inventory.users
set created_at = now() - interval '1 day', updated_at = now() - interval '1 day'
where id = pg_temp.user_id('ann');
select results_eq(
  $$select id, username, "createdAt", "updatedAt" from api.ensure_user(pg_temp.user_id('ann'), pg_temp.username('other'))$$,
  $$values (pg_temp.user_id('ann'), pg_temp.username('ann'), now() - interval '1 day', now() - interval '1 day')$$,
  'A user who is there comes back as he is; the id decides, not the name.'
);
select is(
  (select username from api.ensure_user(pg_temp.user_id('ann'))), pg_temp.username('ann'),
  'Without a name he keeps the one he has.'
);
select lives_ok(
  $$select api.ensure_user(pg_temp.user_id('ann'), '')$$, 'Whatever name is given for a user who is there, he is served.'
);
select is((select count(*) from inventory.users where id = pg_temp.user_id('ann')), 1::bigint, 'He is made once.');

select is(
  (select username from api.ensure_user(pg_temp.user_id('bob'))), pg_temp.default_name('bob'),
  'A user who brings no name is called after his id.'
);

-- Names that are taken.

create temp table namesake on commit drop as
select u.* from unnest(array['cat', 'dan']) as name, api.ensure_user(pg_temp.user_id(name), pg_temp.username('ann')) u;

select is(
  (select array_agg(id) from namesake), array[pg_temp.user_id('cat'), pg_temp.user_id('dan')], 'A taken name is no refusal.'
);
select is_empty(
  $$select username from namesake where username !~ ('^' || pg_temp.username('ann') || '-[0-9a-f]{8}$')$$,
  'Who brings a taken name gets it with a suffix.'
);
select is((select count(distinct username) from namesake), 2::bigint, 'Each gets a suffix of his own.');

do $$
begin
  perform api.create_user(pg_temp.default_name('eve'));
  perform api.create_user(rpad(pg_temp.username('long'), 200, 'x'));
end
$$;
select matches(
  (select username from api.ensure_user(pg_temp.user_id('eve'))), '^user-[0-9a-f]{8}$',
  'A default name that is taken becomes another.'
);
select isnt(
  (select username from api.ensure_user(pg_temp.user_id('eve'))), pg_temp.default_name('eve'), 'And it is not the taken one.'
);
select matches(
  (select username from api.ensure_user(pg_temp.user_id('fay'), rpad(pg_temp.username('long'), 200, 'x'))),
  '^' || pg_temp.username('long') || 'x+-[0-9a-f]{8}$', 'A long name that is taken is cut to make room for the suffix.'
);

-- Names that are refused.

select throws_ok(
  $$select api.ensure_user(pg_temp.user_id('gus'), E'a\nb')$$, 'PT400', 'VALIDATION_ERROR',
  'A name with a control character is refused.'
);
select is(
  pg_temp.refusal($$select api.ensure_user(pg_temp.user_id('gus'), '')$$),
  'PT400 VALIDATION_ERROR: username: must be 1 to 200 characters, not all blank, without control characters',
  'An empty name is refused, with the field and the reason.'
);
select is(
  pg_temp.refusal($$select api.ensure_user(null, 'gus')$$), 'PT400 VALIDATION_ERROR: p_user_id: is required',
  'Nobody in particular is refused.'
);
select is_empty($$select from inventory.users where id = pg_temp.user_id('gus')$$, 'A refusal makes no user.');

select * from finish();
rollback;
