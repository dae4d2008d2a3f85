-- inventory.ticket_code: the code that proves that api.create_stream_ticket wrote this text: HMAC-SHA-256, by the key in
-- inventory.ticket_key.
--
-- Locks: none. Errors: none.

create or replace function inventory.ticket_code(p_text text)
returns bytea
language sql stable
as $$
  select sha256(k.outer_key || sha256(k.inner_key || convert_to(p_text, 'UTF8'))) from inventory.ticket_key k
$$;

comment on function inventory.ticket_code(text) is 'The code (HMAC-SHA-256) of the text of a stream ticket.';
