-- api.redeem_stream_ticket: the user of a stream ticket.
--
-- Only the service may call it. A ticket costs the same whether it is right or wrong: its form is looked at, and one code is made.
-- Hashes are compared and not the codes, so that the time of the comparison tells nothing of the right code.
--
-- Locks: none. Errors: TICKET_INVALID (forged, too old, or no ticket).

create or replace function api.redeem_stream_ticket(p_ticket text)
returns uuid
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_parts text[] := string_to_array(p_ticket, '.');
begin
  if p_ticket ~ '^[0-9a-f]{32}\.[0-9]{10}\.[0-9a-f]{64}$' then
    if sha256(decode(v_parts[3], 'hex')) = sha256(inventory.ticket_code(v_parts[1] || '.' || v_parts[2]))
      and to_timestamp(v_parts[2]::bigint) > now()
    then
      return v_parts[1]::uuid;
    end if;
  end if;
  perform inventory.refuse('TICKET_INVALID');
end
$$;

comment on function api.redeem_stream_ticket(text) is 'The user of a stream ticket, if the ticket is genuine and not too old.';
