-- migrate:up

-- An event may be for one user alone, for example what became of a payment. Such a private event is in the same log and has its place
-- in the same order, but only streams that prove to be its user's get it. A browser's EventSource and WebSocket can send no header, so
-- they show a ticket in the URL, which is signed with a key that only the owner of this table can read.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- There is no foreign key, because it would lock the user's row, and the log is short-lived.
alter table inventory.events add column user_id uuid;
comment on column inventory.events.user_id is 'The only user who may see the event; null: everybody may.';

-- Public events are not in it, so it costs a sale nothing. It is empty now, so it is made in one pass over the log.
-- squawk-ignore require-concurrent-index-creation
create index events_user_idx on inventory.events (user_id, id) where user_id is not null;
comment on index inventory.events_user_idx is 'What happened to one user, for clients of certain drops that come back.';

alter type inventory.new_event add attribute user_id uuid;

-- The key is made like that of notifications (inventory.event_key), and both keys of HMAC are kept for the same reason.
create table inventory.ticket_key (
  is_only boolean primary key default true check (is_only),
  inner_key bytea not null,
  outer_key bytea not null
);
comment on table inventory.ticket_key is 'One row: the two keys of the codes (HMAC-SHA-256) that prove who made a stream ticket.';
comment on constraint ticket_key_is_only_check on inventory.ticket_key is 'is_only: must be true';

insert into inventory.ticket_key (inner_key, outer_key)
select
  (select string_agg(set_byte('\x00', 0, get_byte(k.key, n) # 54), '' order by n) from generate_series(0, 63) n),
  (select string_agg(set_byte('\x00', 0, get_byte(k.key, n) # 92), '' order by n) from generate_series(0, 63) n)
from (
  select sha256(string_agg(uuid_send(gen_random_uuid()), '')) || sha256(string_agg(uuid_send(gen_random_uuid()), '')) as key
  from generate_series(1, 4)
) k;

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- squawk-ignore ban-drop-function
drop function if exists
  api.create_stream_ticket(uuid), api.redeem_stream_ticket(text), api.relayed_events_after(bigint, integer),
  api.events_after(bigint, integer, uuid[], uuid), inventory.logged_events(bigint, integer, uuid[], uuid, boolean),
  inventory.ticket_code(text), inventory.data_with_time(json, timestamptz);
-- squawk-ignore ban-drop-table
drop table inventory.ticket_key;
alter type inventory.new_event drop attribute user_id;
-- Without the column every event of the log is public, so those that are not must go. Their ids become gaps.
delete from inventory.events where user_id is not null;
drop index inventory.events_user_idx;
-- squawk-ignore ban-drop-column
alter table inventory.events drop column user_id;
-- The function files that use what is gone are applied again when this migration is, or by the version before.
delete from inventory.function_files;
