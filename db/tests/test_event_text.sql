-- What an event says does not depend on who commits: times are UTC, data is one line, and names come out as they went in.
begin;
select plan(13);

set local timezone = 'Asia/Kolkata';
set local datestyle = 'SQL, DMY';

create function pg_temp.odd_name() returns text language sql immutable as $$
  select E'"Zoë"\u2028\\n \\u0041 ''{}'' 👟 <b>&amp;' || repeat('𝒳', 160)
$$;

-- A username does not break a line.
create function pg_temp.odd_username() returns text language sql immutable as $$
  select translate(pg_temp.odd_name(), E'\u2028', '')
$$;

do $$
begin
  perform pg_temp.make_users('seller');
  perform api.ensure_user(pg_temp.user_id('odd'), pg_temp.odd_username());
  perform api.create_drop(
    pg_temp.odd_name(), 1234567890.1, 3, pg_temp.user_id('seller'), '2020-07-01 00:00:00.25+00', '2999-01-01 00:00+05:30');
  perform api.reserve(id, pg_temp.user_id('odd')) from inventory.drops where created_by = pg_temp.user_id('seller');
  perform api.purchase(id, pg_temp.user_id('odd')) from inventory.drops where created_by = pg_temp.user_id('seller');
  update inventory.purchases set created_at = '2020-07-02 03:00+00' where user_id = pg_temp.user_id('odd');
end
$$;
set constraints all immediate;
set constraints all deferred;

create temp table event on commit drop as
select e.type, e.data, e.data::jsonb as content
from inventory.events e
join inventory.drops d on d.id = e.drop_id and d.created_by = pg_temp.user_id('seller');

select is((select content #>> v.path from event where type = v.type), v.expected, v.description)
from (values
  (1, 'DROP_CREATED', '{drop,starts_at}'::text[], '2020-07-01T00:00:00.25+00:00', 'A drop starts in UTC, to the microsecond.'),
  (2, 'DROP_CREATED', '{drop,ends_at}', '2998-12-31T18:30:00+00:00', 'It ends in UTC.'),
  (3, 'PURCHASE_COMPLETED', '{purchasedAt}', '2020-07-02T03:00:00+00:00', 'It is sold in UTC.'),
  (4, 'ACTIVITY_UPDATED', '{latestPurchasers,0,createdAt}', '2020-07-02T03:00:00+00:00', 'It is seen to be sold in UTC.'),
  (5, 'DROP_CREATED', '{drop,price}', '1234567890.10', 'A price is the number it is.'),
  (6, 'DROP_CREATED', '{drop,name}', pg_temp.odd_name(), 'A name comes out as it went in.'),
  (7, 'PURCHASE_COMPLETED', '{username}', pg_temp.odd_username(), 'A buyer''s name does.'),
  (8, 'ACTIVITY_UPDATED', '{latestPurchasers,0,username}', pg_temp.odd_username(), 'A purchaser''s name does.')
) as v (n, type, path, expected, description)
order by v.n;
select is(
  (select (content #>> '{drop,createdAt}')::timestamptz from event where type = 'DROP_CREATED'), now(),
  'The moment is the right one.'
);
select is_empty($$select type, data from event where data::text ~ '[\x01-\x1f\x7f-\x9f]'$$, 'The data is one line.');
select is((select count(*) from event), 4::bigint, 'All four events were looked at.');
select results_eq(
  $$
    select e.data::text
    from api.events_after(null, 4) e
  $$,
  $$
    select left(e.data::text, -1) || ',"at":"' || to_char(e.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || '"}'
    from inventory.events e
    where e.id > (select max(id) - 4 from inventory.events)
    order by e.id
  $$,
  'It is read as it was published, with the time, in UTC and milliseconds.'
);
select is(
  array[current_setting('timezone'), current_setting('datestyle')], array['Asia/Kolkata', 'SQL, DMY'],
  'The settings of the session are what they were.'
);

select * from finish();
rollback;
