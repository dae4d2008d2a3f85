-- migrate:up

-- A drop may have a picture, which the page shows where it is bought. Both triggers name the column, because a change of it is a
-- seller's change: it raises the revision and is announced.
-- squawk-ignore-file ban-create-domain-with-constraint, ban-drop-column, ban-drop-domain

set local lock_timeout = '5s';
set local statement_timeout = '60s';

-- A browser loads this address, so only the characters of RFC 3986 are in it. A path begins with one slash: "//x" and "/\x" would
-- be another host. Plain http is for development, where the host is the reader's own machine.
create domain inventory.drop_image_url as text
  constraint drops_image_url_check check (
    char_length(value) <= 2000
    and value ~ '^[A-Za-z0-9._~:/?#@!$&''()*+,;=%[\]-]+$'
    and (
      value ~ '^https://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/|$)'
      or value ~ '^http://(localhost|127\.0\.0\.1)(:[0-9]{1,5})?(/|$)'
      or value ~ '^/[A-Za-z0-9._~%-]'
    )
  );
comment on constraint drops_image_url_check on domain inventory.drop_image_url is
'image_url: must be an https URL or a path on this host, such as /shoe.jpg, of at most 2000 characters; http is for localhost';

alter table inventory.drops add column image_url inventory.drop_image_url;
alter type api.drop_row add attribute image_url text;

drop trigger drops_raise_revision on inventory.drops;
drop trigger drops_update_note on inventory.drops;
create trigger drops_raise_revision
  before update of
    name, price, total_stock, starts_at, ends_at, status, paused_at, limit_per_user, hold_seconds, rehold_after_seconds,
    extension_seconds, image_url
  on inventory.drops
  for each row execute function inventory.raise_revision();
create trigger drops_update_note
  after update of
    id, name, price, currency, created_by, total_stock, starts_at, ends_at, status, paused_at, limit_per_user, hold_seconds,
    rehold_after_seconds, extension_seconds, image_url
  on inventory.drops
  for each row execute function inventory.note_drop();

-- migrate:down

set local lock_timeout = '5s';
set local statement_timeout = '60s';

drop trigger drops_raise_revision on inventory.drops;
drop trigger drops_update_note on inventory.drops;
create trigger drops_raise_revision
  before update of
    name, price, total_stock, starts_at, ends_at, status, paused_at, limit_per_user, hold_seconds, rehold_after_seconds,
    extension_seconds
  on inventory.drops
  for each row execute function inventory.raise_revision();
create trigger drops_update_note
  after update of
    id, name, price, currency, created_by, total_stock, starts_at, ends_at, status, paused_at, limit_per_user, hold_seconds,
    rehold_after_seconds, extension_seconds
  on inventory.drops
  for each row execute function inventory.note_drop();
alter type api.drop_row drop attribute image_url;
alter table inventory.drops drop column image_url;
drop domain inventory.drop_image_url;
