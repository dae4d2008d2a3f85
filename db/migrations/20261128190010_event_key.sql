-- migrate:up

-- Any role that may connect to the database may NOTIFY. A listener must know which notifications inventory.publish wrote, so each
-- one carries a message authentication code (HMAC-SHA-256), whose key only the owner of this table can read.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- HMAC hashes twice, each time with the key combined with a constant byte (54 and 92). Both are kept, so that an event costs two
-- calls of sha256() and no more.
create table inventory.event_key (
  is_only boolean primary key default true check (is_only),
  key bytea not null,
  inner_key bytea not null,
  outer_key bytea not null
);
comment on table inventory.event_key is
'One row: the key of the codes that prove that a notification is an event, and the two keys that HMAC derives from it.';

comment on constraint event_key_is_only_check on inventory.event_key is 'is_only: must be true';

insert into inventory.event_key (key, inner_key, outer_key)
select
  k.key,
  (select string_agg(set_byte('\x00', 0, get_byte(k.key, n) # 54), '' order by n) from generate_series(0, 63) n),
  (select string_agg(set_byte('\x00', 0, get_byte(k.key, n) # 92), '' order by n) from generate_series(0, 63) n)
from (
  select sha256(string_agg(uuid_send(gen_random_uuid()), '')) || sha256(string_agg(uuid_send(gen_random_uuid()), '')) as key
  from generate_series(1, 4)
) k;

-- migrate:down

-- squawk-ignore ban-drop-function
drop function if exists api.event_key();
-- squawk-ignore ban-drop-table
drop table inventory.event_key;
-- What was dropped here is applied again if this migration is.
delete from inventory.function_files where path = 'api/event_key.sql';
