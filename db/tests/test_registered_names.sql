-- The register of names: api.claim_names grants a name to one user, api.release_name gives it back, api.names_of tells names.
begin;
select plan(24);

do $$ begin perform pg_temp.make_users('ann', 'bob'); end $$;

-- Which of these claims, each of a user and a name, are granted.
create function pg_temp.claims(variadic p_claims text[]) returns boolean[] language sql as $$
  select array_agg(c.is_granted order by c.n)
  from api.claim_names(array(
    select row(pg_temp.user_id(split_part(x.claim, ': ', 1)), nullif(split_part(x.claim, ': ', 2), ''))::api.user_request
    from unnest(p_claims) with ordinality as x (claim, n)
    order by x.n)) c
$$;

select is(pg_temp.claims('cat: pgtap registered'), '{t}', 'The first to claim a name has it.');
select is(pg_temp.claims('dan: pgtap registered'), '{f}', 'Another user cannot have it.');
select is(pg_temp.claims('cat: pgtap registered'), '{t}', 'A repeated claim is answered as before.');
select is(pg_temp.claims('dan: PGTAP  Registered'), '{f}', 'Names that look alike are one name.');
select is(pg_temp.claims('cat: ＰＧＴＡＰ registered'), '{t}', 'Also to their user.');
select is(
  pg_temp.claims('dan: pgtap z', 'cat: pgtap y', 'eve: pgtap z', 'dan: pgtap x', 'eve: pgtap registered'), '{t,t,f,t,f}',
  'Many are claimed at once, whatever their order is; of two who claim one name the first has it.');
select is(pg_temp.claims('dan: pgtap z', 'eve: pgtap z'), '{t,f}', 'A user may have several names.');
select is(
  (select array_agg(r.name_key order by r.name_key) from inventory.registered_names r where r.user_id = pg_temp.user_id('dan')),
  array['pgtap x', 'pgtap z'], 'What is granted is kept.');
select is(pg_temp.claims('cat: pgtap ann'), '{f}', 'The name of a user who is known here is taken, without a register, too.');
select is(pg_temp.claims('ann: pgtap ann'), '{t}', 'This user can claim it.');
select is(
  (select array_agg(r.user_id) from inventory.registered_names r where r.name_key = 'pgtap ann'), pg_temp.user_ids('ann'),
  'A claim that is not granted leaves nothing.');
select is(pg_temp.claims('cat: '), '{t}', 'Without a name, it is the default name:');
select is(pg_temp.claims('dan: user-' || left(pg_temp.user_id('cat')::text, 8)), '{f}', 'that of api.ensure_user.');
select is(pg_temp.claims(variadic '{}'), null, 'No claims, no answer.');

select is(
  pg_temp.refusal(format('select pg_temp.claims(%L, %L)', 'dan: pgtap fine', v.claim)),
  pg_temp.error('VALIDATION_ERROR',
    'username: must be 1 to 200 characters, not all invisible, without control characters or changes of text direction'),
  v.description)
from (values
  ('dan: ' || repeat('x', 201), 'A name that is too long is refused.'), ('dan: ' || U&'\200B', 'So is one that cannot be seen.')
) as v (claim, description);
select is(
  pg_temp.refusal($$select api.claim_names(array[row(null, 'pgtap fine')]::api.user_request[])$$),
  pg_temp.error('VALIDATION_ERROR', 'p_user_id: is required'), 'So is a claim for nobody.');
select is_empty($$select from inventory.registered_names where name_key = 'pgtap fine'$$, 'Then nothing is claimed.');

do $$
begin
  perform api.release_name(pg_temp.user_id('dan'), 'pgtap registered');
  perform api.release_name(pg_temp.user_id('dan'), 'Pgtap X');
end
$$;
select is(pg_temp.claims('eve: pgtap registered', 'eve: pgtap x', 'eve: pgtap z'), '{f,t,f}', 'Only the user who has a name gives it back.');
do $$ begin perform api.release_name(pg_temp.user_id('cat')); end $$;
select is(pg_temp.claims('eve: pgtap registered', 'eve: pgtap y', 'eve: pgtap z'), '{t,t,f}', 'Without a name, all are given back.');

-- Names of users.

do $$ begin perform api.forget_user(pg_temp.user_id('bob')); end $$;
select results_eq(
  $$select user_id, username, is_forgotten from api.names_of(pg_temp.user_ids('ann', 'bob', 'nobody')) order by is_forgotten$$,
  $$
    select u.id, u.username, u.forgotten_at is not null from inventory.users u
    where u.id in (pg_temp.user_id('ann'), pg_temp.user_id('bob')) order by 3
  $$,
  'api.names_of tells the names of those who are known, and who was forgotten.');
select is((select count(*) from api.names_of(pg_temp.user_ids('ann', 'bob')) where is_forgotten), 1::bigint, 'One was.');
select is_empty('select from api.names_of(null)', 'Of nobody, nothing.');
select is_empty('select from api.names_of(array[null::uuid])', 'Nor of null.');

select * from finish();
rollback;
