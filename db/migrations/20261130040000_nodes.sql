-- migrate:up

-- Several databases can share the sales: the nodes behind a router. A drop lives on the node that made it, whole, so an id has to
-- say which node that is. Byte 9 of every new id is the number of its node (bytes are counted from 0); it was random before.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- The number is the body of a function and not a setting, because every session may change a setting of its own. It costs nothing:
-- PostgreSQL puts the constant into each plan. The function is stable and not immutable, because of an immutable one inside uuid_v7
-- only the value would be left in a plan, and the plan would not be made anew when the function is replaced.
create function inventory.node() returns integer language sql stable parallel safe return 0;
comment on function inventory.node() is 'The number of this node. inventory.set_node sets it.';

do $do$
begin
  if pg_catalog.current_setting('server_version_num')::integer >= 180000 then
    create or replace function inventory.uuid_v7() returns uuid
      language sql volatile parallel safe
      begin atomic
        select pg_catalog.encode(pg_catalog.set_byte(pg_catalog.uuid_send(pg_catalog.uuidv7()), 9, inventory.node()), 'hex')::uuid;
      end;
  else
    -- Made from a random UUIDv4: its variant bits stay, its first 48 bits become milliseconds, its version digit becomes 7.
    create or replace function inventory.uuid_v7() returns uuid
      language sql volatile parallel safe
      as $$
        select pg_catalog.overlay(
          pg_catalog.encode(pg_catalog.set_byte(pg_catalog.uuid_send(pg_catalog.gen_random_uuid()), 9, inventory.node()), 'hex'),
          pg_catalog.lpad(pg_catalog.to_hex((extract(epoch from pg_catalog.clock_timestamp()) * 1000)::bigint), 12, '0') || '7',
          1,
          13)::uuid
      $$;
  end if;
end
$do$;
comment on function inventory.uuid_v7() is
'A new UUIDv7 of this node: PostgreSQL''s own from 18 on, emulated below, with the number of the node as byte 9.';

-- A username is unique over all nodes, because the router lets a user claim it on one node, which the hash of its key picks.
create table inventory.registered_names (
  name_key text primary key,
  user_id uuid not null
);
create index registered_names_user_idx on inventory.registered_names (user_id);
comment on index inventory.registered_names_user_idx is 'The names of one user, to give them back.';
comment on table inventory.registered_names is
'The usernames that this node keeps for all nodes of a router; a user need not be known here.';
comment on column inventory.registered_names.name_key is 'See inventory.name_key.';

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

do $do$
begin
  if pg_catalog.current_setting('server_version_num')::integer >= 180000 then
    create or replace function inventory.uuid_v7() returns uuid
      language sql volatile parallel safe
      begin atomic
        select pg_catalog.uuidv7();
      end;
  else
    create or replace function inventory.uuid_v7() returns uuid
      language sql volatile parallel safe
      as $$
        select pg_catalog.overlay(
          pg_catalog.replace(pg_catalog.gen_random_uuid()::text, '-', ''),
          pg_catalog.lpad(pg_catalog.to_hex((extract(epoch from pg_catalog.clock_timestamp()) * 1000)::bigint), 12, '0') || '7',
          1,
          13)::uuid
      $$;
  end if;
end
$do$;
comment on function inventory.uuid_v7() is 'A new UUIDv7: built in from PostgreSQL 18 on, emulated before.';
-- squawk-ignore ban-drop-function
drop function if exists
  api.claim_names(api.user_request[]), api.release_name(uuid, text), api.node(), inventory.set_node(integer), inventory.node();
-- squawk-ignore ban-drop-table
drop table inventory.registered_names;
-- What was dropped here is applied again if this migration is.
delete from inventory.function_files
where path in ('api/claim_names.sql', 'api/release_name.sql', 'api/node.sql', 'inventory/set_node.sql');
