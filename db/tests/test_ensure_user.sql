-- api.ensure_user finds a user or makes one: an identity from elsewhere must be served on first use, whatever name it brings.
begin;
select plan(14);

create function pg_temp.username(p_name text) returns text language sql immutable as $$ select 'pgtap ensure_user ' || p_name $$;

-- The name of a user who brings none.
create function pg_temp.default_name(p_name text) returns text language sql immutable as $$
  select 'user-' || left(pg_temp.user_id(p_name)::text, 8)
$$;

create temp table made on commit drop as select * from api.ensure_user(pg_temp.user_id('ann'), pg_temp.username('ann'));

select results_eq(
  'table made', $$values (pg_temp.user_id('ann'), pg_temp.username('ann'), now(), now())$$,
  'A user who is missing is made now, with the id and the name given.'
);
select results_eq(
  $$select id, username, created_at, updated_at from inventory.users where id = pg_temp.user_id('ann')$$, 'table made',
  'What comes back is what is stored.'
);

update inventory.users
set created_at = now() - interval '1 day', updated_at = now() - interval '1 day'
where id = pg_temp.user_id('ann');
select results_eq(
  format('select * from api.ensure_user(pg_temp.user_id(''ann''), %L)', v.username),
  $$values (pg_temp.user_id('ann'), pg_temp.username('ann'), now() - interval '1 day', now() - interval '1 day')$$, v.description
)
from (values
  (pg_temp.username('other'), 'A user who exists comes back unchanged; the id decides, not the name.'),
  (null, 'A user who exists needs no name.'),
  ('', 'A user who exists is served whatever name is given.')
) as v (username, description);

select is(
  (select username from api.ensure_user(pg_temp.user_id('bob'))), pg_temp.default_name('bob'),
  'A user who brings no name is called after the id.'
);

-- Names that are taken.

create temp table namesake on commit drop as
select u.* from unnest(array['cat', 'dan']) as name, api.ensure_user(pg_temp.user_id(name), pg_temp.username('ann')) u;

select is(
  (select array_agg(id) from namesake), pg_temp.user_ids('cat', 'dan'), 'A name that another user has is no reason to refuse.'
);
select ok(
  count(distinct username) = 2 and bool_and(username ~ ('^' || pg_temp.username('ann') || '-[0-9a-f]{8}$')),
  'A user who brings a taken name gets it with a suffix, and each gets another suffix.'
)
from namesake;

do $$
begin
  perform api.create_user(pg_temp.default_name('eve'));
  perform api.create_user(rpad(pg_temp.username('long'), 200, 'x'));
end
$$;
select ok(
  u.username ~ '^user-[0-9a-f]{8}$' and u.username <> pg_temp.default_name('eve'),
  'A default name that is taken becomes another of the same form.'
)
from api.ensure_user(pg_temp.user_id('eve')) u;
select matches(
  (select username from api.ensure_user(pg_temp.user_id('fay'), rpad(pg_temp.username('long'), 200, 'x'))),
  '^' || pg_temp.username('long') || 'x+-[0-9a-f]{8}$', 'A long name that is taken is cut to make room for the suffix.'
);

-- Refusals.

select is(
  pg_temp.refusal(format('select api.ensure_user(%L, %L)', v.id, v.name)), pg_temp.error('VALIDATION_ERROR', v.reason),
  v.description
)
from (values
  (pg_temp.user_id('gus'), E'a\nb', 'username: must be 1 to 200 characters, not all invisible, without control characters or changes of text direction',
    'A name with a control character is refused.'),
  (pg_temp.user_id('gus'), '', 'username: must be 1 to 200 characters, not all invisible, without control characters or changes of text direction',
    'An empty name is refused, with the field and the reason.'),
  (null, 'gus', 'p_user_id: is required', 'A null id is refused.')
) as v (id, name, reason, description);
select is_empty($$select from inventory.users where id = pg_temp.user_id('gus')$$, 'A refusal makes no user.');

select * from finish();
rollback;
