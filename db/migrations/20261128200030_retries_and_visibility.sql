-- migrate:up

-- Retries of requests that are rare: putting a drop up for sale, making a user. A reserve and a purchase keep their key in their
-- own row. And revisions of a drop.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

create table inventory.idempotency_keys (
  user_id uuid,
  key text not null,
  fingerprint bytea not null,
  row_id uuid not null,
  transaction_id xid8 not null default pg_current_xact_id(),
  created_at timestamptz not null default now(),
  constraint idempotency_keys_key unique nulls not distinct (user_id, key)
);
create index idempotency_keys_created_at_idx on inventory.idempotency_keys (created_at);
comment on index inventory.idempotency_keys_created_at_idx is 'The oldest keys, for pruning.';
comment on table inventory.idempotency_keys is 'The Idempotency-Keys of rare requests, each with the row that the first one made. Pruned after a day.';
comment on column inventory.idempotency_keys.user_id is 'Who sent the key; null: a request that names nobody.';
comment on column inventory.idempotency_keys.fingerprint is 'SHA-256 of the operation and the request, so that a key of another request is noticed.';
comment on column inventory.idempotency_keys.row_id is 'What the first request made.';
comment on column inventory.idempotency_keys.transaction_id is 'The transaction of the first request; any other one is a replay.';

-- What a seller changes, so that two sellers do not undo one another's work. A constant default rewrites no row.
alter table inventory.drops add column revision integer not null default 1;
comment on column inventory.drops.revision is 'How often what a seller sets was changed. Sales and the clock do not raise it.';
create function inventory.raise_revision() returns trigger language plpgsql as 'begin return new; end';
create trigger drops_raise_revision
  before update of name, price, total_stock, starts_at, ends_at, status, paused_at, limit_per_user, hold_seconds,
    rehold_after_seconds, extension_seconds
  on inventory.drops
  for each row execute function inventory.raise_revision();

-- Drafts are the seller's: what happens to one is not announced. A drop that goes back to draft, or is deleted by hand, is announced
-- as removed, so the note says whether the drop could be seen before the transaction.
alter table inventory.changes add column was_public boolean;
create trigger drops_delete_note after delete on inventory.drops
  for each row execute function inventory.note_drop();

-- What the service is configured with and the database must know, because it writes the events.
create table inventory.settings (
  is_only boolean primary key default true constraint settings_is_only_check check (is_only),
  purchaser_names text not null default 'full',
  constraint settings_purchaser_names_check check (purchaser_names in ('full', 'initials', 'hidden'))
);
comment on table inventory.settings is 'One row: what the service is configured with and the functions must know.';
comment on column inventory.settings.purchaser_names is 'How purchasers'' names are shown to everybody.';
comment on constraint settings_is_only_check on inventory.settings is 'is_only: there is one row';
comment on constraint settings_purchaser_names_check on inventory.settings is 'p_names: must be full, initials or hidden';
insert into inventory.settings default values;

-- Usernames that look alike are taken for the same. Rows that break the new rules get a name that does not: of those that look alike
-- the oldest keeps its name, the others get a suffix.
-- Case in Unicode does not depend on the locale of the database: from PostgreSQL 17 on by a collation that is built in, before by ICU.
-- The function looks for the collation when it runs, because a dump may be restored where there is another one.
create function inventory.fold_case(p_text text)
returns text
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from pg_collation c where c.collname = 'pg_c_utf8') and getdatabaseencoding() = 'UTF8' then
    return lower(upper(p_text collate pg_c_utf8));
  elsif exists (
    select from pg_collation c
    where c.collname = 'und-x-icu' and c.collencoding in (-1, pg_char_to_encoding(getdatabaseencoding()))
  ) then
    return lower(upper(p_text collate "und-x-icu"));
  end if;
  return lower(upper(p_text));
end
$$;
comment on function inventory.fold_case(text) is 'A text without its case, in every script, whatever the locale of the database is.';

create function inventory.name_key(p_name text)
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

-- squawk-ignore ban-drop-constraint
alter table inventory.users drop constraint users_username_key;
-- squawk-ignore ban-drop-constraint
alter table inventory.users drop constraint users_username_check;
do $$
begin
  update inventory.users u
  set username = n.name, updated_at = now()
  from (
    select
      c.id, left(normalize(regexp_replace(c.username, '[\u2028\u2029\u202a-\u202e\u2066-\u2069]', '', 'g'), NFC), 200) as name
    from inventory.users c
  ) n
  where n.id = u.id and n.name <> u.username;
  update inventory.users u set username = 'user-' || left(u.id::text, 8), updated_at = now() where inventory.name_key(u.username) = '';
  loop
    update inventory.users u
    set username = left(u.username, 190) || '-' || substr(md5(gen_random_uuid()::text), 1, 8), updated_at = now()
    from (
      select c.id, row_number() over (partition by inventory.name_key(c.username) order by c.created_at, c.id) as n
      from inventory.users c
    ) same
    where same.id = u.id and same.n > 1;
    exit when not found;
  end loop;
end
$$;
-- squawk-ignore constraint-missing-not-valid
alter table inventory.users add constraint users_username_check check (
  char_length(username) <= 200 and username is nfc normalized and inventory.name_key(username) <> ''
  and username !~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]');
comment on constraint users_username_check on inventory.users is
'username: must be 1 to 200 characters, not all invisible, without control characters or changes of text direction';
-- squawk-ignore require-concurrent-index-creation
create unique index users_username_key on inventory.users (inventory.name_key(username));
comment on index inventory.users_username_key is 'No two users have usernames that look alike.';
create function inventory.note_user() returns trigger language plpgsql as 'begin return null; end';
create trigger users_rename_note after update of username on inventory.users
  for each row when (old.username <> new.username) execute function inventory.note_user();

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

drop trigger users_rename_note on inventory.users;
-- squawk-ignore ban-drop-function
drop function inventory.note_user();
-- squawk-ignore require-concurrent-index-deletion
drop index inventory.users_username_key;
-- squawk-ignore ban-drop-constraint
alter table inventory.users drop constraint users_username_check;
-- squawk-ignore disallowed-unique-constraint, constraint-missing-not-valid
alter table inventory.users add constraint users_username_key unique (username);
-- squawk-ignore constraint-missing-not-valid
alter table inventory.users add constraint users_username_check
  check (char_length(username) <= 200 and username ~ '\S' and username !~ '[\u0001-\u001f\u007f-\u009f]');
comment on constraint users_username_check on inventory.users is 'username: must be 1 to 200 characters, not all blank, without control characters';
comment on constraint users_username_key on inventory.users is 'username: is taken';
-- squawk-ignore ban-drop-function
drop function inventory.name_key(text), inventory.fold_case(text);
drop trigger drops_delete_note on inventory.drops;
-- squawk-ignore ban-drop-column
alter table inventory.changes drop column was_public;
drop trigger drops_raise_revision on inventory.drops;
-- squawk-ignore ban-drop-function
drop function inventory.raise_revision();
-- squawk-ignore ban-drop-column
alter table inventory.drops drop column revision;
-- squawk-ignore ban-drop-table
drop table inventory.settings;
-- squawk-ignore ban-drop-table
drop table inventory.idempotency_keys;
-- Every function file is applied again, because some of them use what has changed.
delete from inventory.function_files;
