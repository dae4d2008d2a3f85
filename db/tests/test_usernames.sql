-- Usernames: which are refused, which look alike, and that a user can be forgotten.
begin;
select plan(47);

select is(
  pg_temp.refusal(format('select api.create_user(%L)', v.name)),
  pg_temp.error('VALIDATION_ERROR',
    'username: must be 1 to 200 characters, not all invisible, without control characters or changes of text direction'),
  'Refused: ' || v.what
)
from (values
  ('', 'empty'), (E'\u00a0\u3000', 'blanks'), (E'\u200b', 'a zero-width space'), (E'\u2060\ufeff', 'joiners'),
  (E'\u3164', 'a Hangul filler'), (E'\u2800', 'a Braille blank'), (E'\u00ad', 'a soft hyphen'), (E'\u034f', 'a grapheme joiner'),
  (E'\U000e0041', 'a tag'), (E'\ufe0f', 'a variation selector'), (E'ann\u202eeel', 'an override'), (E'\u202aann\u202c', 'an embedding'),
  (E'\u2066ann\u2069', 'an isolate'), (E'ann\u2028lee', 'a line separator'), (repeat('x', 201), '201 characters')
) as v (name, what);

-- The first name is there; whether the second one is taken.
do $$ begin
  perform api.create_user(name)
  from unnest(array['pgtap Zoë', 'pgtap ÉLODIE', 'pgtap a b', 'pgtap ﬁne', 'pgtap ΣΊΣΥΦΟΣ']) as name;
end $$;
select is(pg_temp.refusal(format('select api.create_user(%L)', v.name)), pg_temp.error('USERNAME_TAKEN'), 'Taken: ' || v.what)
from (values
  ('PGTAP ZOË', 'another case'), (E'pgtap Zoe\u0308', 'another normal form'), ('pgtap élodie', 'an accent in lower case'),
  (E'pgtap a\u00a0b', 'another blank'), ('  pgtap  a b ', 'more blanks'),
  (E'pgtap a\u3000b', 'a wide blank'), (E'pgtap a\u2003b', 'a long blank'), (E'pgtap\u200b a b', 'a character that cannot be seen'),
  ('pgtap fine', 'a ligature'), ('ｐｇｔａｐ ｚｏë', 'wide letters'), ('pgtap σίσυφοσ', 'Greek')
) as v (name, what);
select lives_ok(format('select api.create_user(%L)', name), 'Free: ' || name)
from unnest(array['pgtap Zoe', 'pgtap ab', E'pgtap 👩\u200d🚀', 'pgtap ⚽️']) as name;
select is(
  (select username from api.create_user(E'pgtap nfc e\u0301')), E'pgtap nfc \u00e9', 'A name is stored in normal form C.'
);

select pg_temp.make_users('seller', 'ann');
select matches(
  (select username from api.ensure_user(gen_random_uuid(), E'PGTAP\u00a0Ann')), E'^PGTAP\u00a0Ann-[0-9a-f]{8}$',
  'A user who comes with a name that looks like another gets a suffix.'
);

-- Renaming.
select is(
  api.rename_user_batch(
    array[row(pg_temp.user_id('ann'), E'pgtap Anne\u0301'), row(gen_random_uuid(), 'x'), row(pg_temp.user_id('seller'), null)]::api.user_request[]),
  1, 'A user gets another name; one who does not exist is not made, and one without a name stays.'
);
select is((select u.username from inventory.users u where u.id = pg_temp.user_id('ann')), E'pgtap Ann\u00e9', 'It is in normal form C.');
select is(
  api.rename_user_batch(array[row(pg_temp.user_id('ann'), E'pgtap Ann\u00e9')]::api.user_request[]), 0, 'The same name changes nothing.'
);
select is(
  api.rename_user_batch(array[row(pg_temp.user_id('seller'), E'pgtap Ann\u00e9')]::api.user_request[]), 1, 'A name may be taken.'
);
select matches(
  (select u.username from inventory.users u where u.id = pg_temp.user_id('seller')), E'^pgtap Ann\u00e9-[0-9a-f]{8}$', 'Then it gets a suffix.'
);
select is(
  api.rename_user_batch(array[row(pg_temp.user_id('seller'), E'pgtap Ann\u00e9')]::api.user_request[]), 0, 'and keeps it.'
);
select is(
  pg_temp.refusal(format('select api.rename_user_batch(array[row(%L, E''a\nb'')]::api.user_request[])', pg_temp.user_id('ann'))),
  pg_temp.refusal('select api.create_user(E''a\nb'')'), 'A name that no user may have is refused.'
);

-- Forgetting, and what it announces.
select pg_temp.make_drop('shoes', 5);
select pg_temp.buy('shoes', 'ann');
select pg_temp.hold('shoes', 'ann');
set constraints all immediate;
set constraints all deferred;
select matches((select username from api.forget_user(pg_temp.user_id('ann'))), '^former-user-[0-9a-f]{12}$', 'The name says nothing.');
select is(pg_temp.stock_of('shoes'), 4, 'What the user held is for sale again.');
set constraints all immediate;
select is(
  (select left(e.data #>> '{latestPurchasers,0,username}', 12) from inventory.events e
    where e.drop_id = pg_temp.drop_id('shoes') order by e.id desc limit 1),
  'former-user-', 'Dashboards hear of it.'
);
select is(
  api.rename_user_batch(array[row(pg_temp.user_id('ann'), 'pgtap Ann again')]::api.user_request[]), 0,
  'A user who was forgotten keeps the name that says nothing.'
);
select is((select count(*) from api.my_purchases(pg_temp.user_id('ann'))), 1::bigint, 'The sale stays.');
select is(
  (select f.username from api.forget_user(pg_temp.user_id('ann')) f),
  (select u.username from inventory.users u where u.id = pg_temp.user_id('ann')), 'Who is forgotten twice keeps that name.'
);
do $$ begin perform api.forget_user((select id from api.create_user('pgtap made with a key', 'key'))); end $$;
select is_empty(
  $$select from inventory.idempotency_keys k join inventory.users u on u.id = k.row_id where u.forgotten_at is not null$$,
  'The key with which a user was made, and so a hash of the name, goes too.'
);
select is(pg_temp.refusal('select api.forget_user(gen_random_uuid())'), pg_temp.error('AUTH_REQUIRED'), 'There must be such a user.');

select * from finish();
rollback;
