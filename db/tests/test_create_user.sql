-- api.create_user makes a user under a name of his own: usernames are shown to others, so they are unique and printable.
begin;
select plan(16);

-- A name that nobody else in the database has.
create function pg_temp.username(p_name text) returns text language sql immutable as $$ select 'pgtap create_user ' || p_name $$;

create temp table made on commit drop as select * from api.create_user(pg_temp.username('ann'));

select is(
  (select array_agg(key) from made, json_object_keys(to_json(made)) as key), array['id', 'username', 'createdAt', 'updatedAt'],
  'The row has the names of the wire.'
);
select is((select count(*) from made), 1::bigint, 'One row comes back.');
select is((select username from made), pg_temp.username('ann'), 'The user has the name asked for.');
select is((select array["createdAt", "updatedAt"] from made), array[now(), now()], 'The user is made now.');
select results_eq(
  $$select id, username, created_at, updated_at from inventory.users where username = pg_temp.username('ann')$$,
  $$select id, username, "createdAt", "updatedAt" from made$$,
  'What comes back is what is stored.'
);
select isnt(
  (select id from api.create_user(pg_temp.username('bob'))), (select id from made), 'Every user has an id of his own.'
);
select lives_ok($$select api.create_user(pg_temp.username(repeat('é', 200 - length(pg_temp.username('')))))$$,
  'A name of 200 characters is accepted.');

select throws_ok(
  $$select api.create_user(pg_temp.username('ann'))$$, 'PT409', 'USERNAME_TAKEN', 'A name that another user has is refused.'
);
select is(
  pg_temp.refusal($$select api.create_user(pg_temp.username('ann'))$$),
  'PT409 USERNAME_TAKEN: Another user has this username. Choose another.', 'The refusal says what to do.'
);

select throws_ok($$select api.create_user('')$$, 'PT400', 'VALIDATION_ERROR', 'An empty name is refused.');
select is(pg_temp.refusal(format('select api.create_user(%L)', v.username)),
  'PT400 VALIDATION_ERROR: username: must be 1 to 200 characters, not all blank, without control characters', v.description)
from (values
  ('', 'The refusal of an empty name says which field and why.'),
  (null, 'A missing name is refused as an empty one.'),
  (E' \u2003', 'A name of blanks is refused.'),
  (repeat('x', 201), 'A name of 201 characters is refused.'),
  (E'ann\r', 'A name with a control character is refused.')
) as v (username, description);

select is(
  (select count(*) from inventory.users where username like pg_temp.username('%')), 3::bigint, 'A refusal makes no user.'
);

select * from finish();
rollback;
