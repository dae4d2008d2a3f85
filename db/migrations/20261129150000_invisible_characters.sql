-- migrate:up

-- More characters that cannot be seen do not count in a username. Two names may have become one; who has such a character in the
-- name gets a name that is free.

set local lock_timeout = '5s';
set local statement_timeout = '600s';

-- squawk-ignore require-concurrent-index-deletion
drop index inventory.users_username_key;
-- squawk-ignore ban-drop-constraint
alter table inventory.users drop constraint users_username_check;
create or replace function inventory.name_key(p_name text)
returns text
language sql immutable parallel safe
return case
  when p_name ~ '^[!-~]+( [!-~]+)*$' then lower(p_name collate "C") -- plain ASCII, 20 times as fast
  else inventory.fold_case(btrim(regexp_replace(
    regexp_replace(
      normalize(p_name, NFKC),
      '[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2060-\u2065\u206a-\u206f\u2800\u3164'
      '\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]',
      '', 'g'),
    '[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+', ' ', 'g')))
end;
update inventory.users u
set
  username = left(normalize(regexp_replace(u.username, '[\u2065\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a]', '', 'g'), NFC), 190)
    || '-' || substr(md5(gen_random_uuid()::text), 1, 8),
  updated_at = now()
where u.username ~ '[\u2065\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a]';
-- squawk-ignore constraint-missing-not-valid
alter table inventory.users add constraint users_username_check check (
  char_length(username) <= 200 and username is nfc normalized and inventory.name_key(username) <> ''
  and username !~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]');
comment on constraint users_username_check on inventory.users is
'username: must be 1 to 200 characters, not all invisible, without control characters or changes of text direction';
-- squawk-ignore require-concurrent-index-creation
create unique index users_username_key on inventory.users (inventory.name_key(username));
comment on index inventory.users_username_key is 'No two users have usernames that look alike.';

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '600s';

-- squawk-ignore require-concurrent-index-deletion
drop index inventory.users_username_key;
-- squawk-ignore ban-drop-constraint
alter table inventory.users drop constraint users_username_check;
create or replace function inventory.name_key(p_name text)
returns text
language sql immutable parallel safe
return case
  when p_name ~ '^[!-~]+( [!-~]+)*$' then lower(p_name collate "C") -- plain ASCII, 20 times as fast
  else inventory.fold_case(btrim(regexp_replace(
    regexp_replace(
      normalize(p_name, NFKC),
      '[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2060-\u2064\u206a-\u206f\u2800\u3164'
      '\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]',
      '', 'g'),
    '[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+', ' ', 'g')))
end;
-- squawk-ignore constraint-missing-not-valid
alter table inventory.users add constraint users_username_check check (
  char_length(username) <= 200 and username is nfc normalized and inventory.name_key(username) <> ''
  and username !~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]');
comment on constraint users_username_check on inventory.users is
'username: must be 1 to 200 characters, not all invisible, without control characters or changes of text direction';
-- squawk-ignore require-concurrent-index-creation
create unique index users_username_key on inventory.users (inventory.name_key(username));
comment on index inventory.users_username_key is 'No two users have usernames that look alike.';
-- This function file is applied again when this migration is, or by the version before.
delete from inventory.function_files where path = 'inventory/name_key.sql';
