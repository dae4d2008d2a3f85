-- api.create_user makes a user under a unique name. test_constraints.sql proves which names the table accepts.
begin;
select plan(8);

-- A name that no other test's user has.
create function pg_temp.username(p_name text) returns text language sql immutable as $$ select 'pgtap create_user ' || p_name $$;

create temp table made on commit drop as select * from api.create_user(pg_temp.username('ann'));

select results_eq(
  'select username, "createdAt", "updatedAt" from made', $$values (pg_temp.username('ann'), now(), now())$$,
  'One row comes back: a user with the name asked for, made now.'
);
select results_eq(
  $$select id, username, created_at, updated_at from inventory.users where username = pg_temp.username('ann')$$, 'table made',
  'What comes back is what is stored.'
);
select isnt((select id from api.create_user(pg_temp.username('bob'))), (select id from made), 'Every user has another id.');

select is(pg_temp.refusal(format('select api.create_user(%L)', v.username)), pg_temp.error(v.code, v.sentence), v.description)
from (values
  (pg_temp.username('ann'), 'USERNAME_TAKEN', null, 'A name that another user has is refused.'),
  ('', 'VALIDATION_ERROR', 'username: must be 1 to 200 characters, not all invisible, without control characters or changes of text direction',
    'An empty name is refused, with the field and the reason.'),
  (null, 'VALIDATION_ERROR', 'username: must be 1 to 200 characters, not all invisible, without control characters or changes of text direction',
    'A missing name is refused as an empty one.'),
  (E'ann\r', 'VALIDATION_ERROR', 'username: must be 1 to 200 characters, not all invisible, without control characters or changes of text direction',
    'A name with a control character is refused.')
) as v (username, code, sentence, description);
select is(
  (select count(*) from inventory.users where username like pg_temp.username('%')), 2::bigint, 'A refusal makes no user.'
);

select * from finish();
rollback;
