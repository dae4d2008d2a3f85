-- inventory.new_webhook_secret: a new secret that signs messages, as Standard Webhooks writes it: whsec_ and 32 bytes in base64.
--
-- Locks: none. Errors: none.

create or replace function inventory.new_webhook_secret()
returns text
language sql volatile
as $$
  select 'whsec_' || encode(sha256(string_agg(uuid_send(gen_random_uuid()), '')), 'base64') from generate_series(1, 4)
$$;

comment on function inventory.new_webhook_secret() is 'Return a new secret that signs the messages for a webhook endpoint.';
