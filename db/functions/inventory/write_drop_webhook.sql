-- inventory.write_drop_webhook: write a message for webhook endpoints that shows a drop as it is.
--
-- Locks: as inventory.write_webhooks, which calls it. Errors: none.

create or replace function inventory.write_drop_webhook(p_type text, p_drop inventory.drops)
returns void
language sql
as $$
  insert into inventory.webhook_messages (drop_id, type, data)
  select p_drop.id, p_type, to_json(e)
  from (select inventory.drop_row(p_drop) as drop) e
$$;

comment on function inventory.write_drop_webhook(text, inventory.drops) is 'Write a message for webhook endpoints about a drop.';
