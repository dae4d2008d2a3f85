-- A notification proves that inventory.publish wrote it: its code is HMAC-SHA-256 by a key that is random and private.
begin;
select plan(5);

-- HMAC as RFC 2104 defines it, by the key alone.
create function pg_temp.padded(p_key bytea, p_byte integer) returns bytea language sql immutable as $$
  select string_agg(set_byte('\x00', 0, coalesce(get_byte(p_key, n), 0) # p_byte), '' order by n) from generate_series(0, 63) n
$$;
create function pg_temp.hmac(p_key bytea, p_text text) returns bytea language sql immutable as $$
  select sha256(pg_temp.padded(p_key, x'5c'::integer) || sha256(pg_temp.padded(p_key, x'36'::integer) || p_text::bytea))
$$;

select is((select count(*) from inventory.event_key), 1::bigint, 'There is one key.');
select is(
  (select sha256(outer_key || sha256(inner_key || 'text'::bytea)) from inventory.event_key),
  (select pg_temp.hmac(key, 'text') from inventory.event_key),
  'The two keys are the one key as HMAC pads it.'
);
select is(api.event_key(), (select key from inventory.event_key), 'The service reads the key.');
select is(
  (select count(distinct get_byte(key, n)) > 40 from inventory.event_key, generate_series(0, 63) n), true, 'The key looks random.'
);
select throws_ok(
  'insert into inventory.event_key select false, key, inner_key, outer_key from inventory.event_key', '23514', null,
  'There cannot be another one.'
);

select * from finish();
rollback;
