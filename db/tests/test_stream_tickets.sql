-- A stream ticket proves for a minute who opens a stream. It cannot be made without the key, and says nothing new afterwards.
begin;
select plan(21);

do $$ begin perform pg_temp.make_users('ann', 'bob'); end $$;
create temp table made on commit drop as select * from api.create_stream_ticket(pg_temp.user_id('ann'));

-- What it says to a text: the name of a user, or the refusal.
create function pg_temp.redeemed(p_ticket text) returns text language plpgsql as $$
begin
  return (select username from inventory.users where id = api.redeem_stream_ticket(p_ticket));
exception when others then
  return sqlstate || ' ' || sqlerrm;
end
$$;

-- A ticket with the right code, whatever it says.
create function pg_temp.signed(p_text text) returns text language sql as $$
  select p_text || '.' || encode(inventory.ticket_code(p_text), 'hex')
$$;

create function pg_temp.text_for(p_user text, p_seconds integer) returns text language sql as $$
  select replace(pg_temp.user_id(p_user)::text, '-', '') || '.' || floor(extract(epoch from now()))::bigint + p_seconds
$$;

select is(pg_temp.redeemed(ticket), 'pgtap ann', 'A ticket is its user''s.') from made;
select is(pg_temp.redeemed(ticket), 'pgtap ann', 'It may be used again.') from made;
select is(expires_at, date_trunc('second', now()) + interval '60 seconds', 'It is good for a minute, by the second.') from made;
select is(ticket, pg_temp.signed(pg_temp.text_for('ann', 60)), 'It is the user, the end, and the code over both.') from made;
select is(pg_temp.redeemed(pg_temp.signed(pg_temp.text_for('ann', v.seconds))), v.expected, v.description)
from (values
  (1, 'pgtap ann', 'A ticket is good up to the end of its time,'), (0, 'PT401 TICKET_INVALID', 'but not at it,'),
  (-1, 'PT401 TICKET_INVALID', 'or later.')
) as v (seconds, expected, description);
select is(pg_temp.redeemed(v.ticket), 'PT401 TICKET_INVALID', v.description)
from made
cross join lateral (values
  (replace(ticket, replace(pg_temp.user_id('ann')::text, '-', ''), replace(pg_temp.user_id('bob')::text, '-', '')),
    'The user cannot be changed,'),
  (pg_temp.text_for('ann', 61) || right(ticket, 65), 'nor the time.'),
  (left(ticket, -1) || case right(ticket, 1) when '0' then '1' else '0' end, 'Nor can the code.'),
  (left(ticket, -64) || repeat('0', 64), 'A code of zeros is none.'),
  (upper(ticket), 'Other letters are another ticket,'),
  (ticket || '0', 'and so is a longer one,'),
  (ticket || E'\n', 'or one with the end of a line.'),
  (left(ticket, -65), 'Without a code it is no ticket,'),
  ('', 'nor is nothing,'),
  ('..', 'or nothing in three parts.'),
  (null, 'Null is none.'),
  (pg_temp.text_for('ann', 60) || '.' || encode(
    (select sha256(k.outer_key || sha256(k.inner_key || pg_temp.text_for('ann', 60)::bytea)) from inventory.event_key k), 'hex'),
    'The key of notifications makes no tickets.')
) as v (ticket, description);
select is(
  pg_temp.refusal('select api.create_stream_ticket(''00000000-0000-4000-8000-000000000000'')'), pg_temp.error('AUTH_REQUIRED'),
  'A user who does not exist gets none.'
);
select throws_ok(
  'insert into inventory.ticket_key select false, inner_key, outer_key from inventory.ticket_key', '23514', null,
  'There cannot be another key.'
);

select * from finish();
rollback;
