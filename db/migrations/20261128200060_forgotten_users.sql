-- migrate:up

-- A user who was forgotten keeps the name that says nothing, whatever the identity provider says later.

set local lock_timeout = '5s';
set local statement_timeout = '60s';

alter table inventory.users add column forgotten_at timestamptz;
comment on column inventory.users.forgotten_at is 'When api.forget_user replaced the name; null: it never did.';
update inventory.users u set forgotten_at = u.updated_at where u.username ~ '^former-user-[0-9a-f]{12}$';

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- squawk-ignore ban-drop-column
alter table inventory.users drop column forgotten_at;
-- The function files that use what is gone are applied again when this migration is.
delete from inventory.function_files;
