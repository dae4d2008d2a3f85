-- api.list_drops shows what is on sale now and who bought last: by the times, whether or not the clock's sweep has been by.
begin;
select plan(9);

-- What is listed of the seller's drops, in its order.
create function pg_temp.listed() returns table (place bigint, name text, id uuid, feed jsonb) language sql stable as $$
  select row_number() over (), d.name, d.id, d.activity_feed::jsonb
  from (select * from api.list_drops(p_limit => 1000) where created_by = pg_temp.user_id('seller')) d
$$;

-- The purchasers in a drop's feed as "ann 1 00:02:00": name, quantity and age.
create function pg_temp.feed_of(p_name text) returns text[] language sql stable as $$
  select array_agg(concat_ws(' ', substr(p.username, 7), p.qty, now() - p."createdAt"))
  from pg_temp.listed() d
  cross join lateral jsonb_to_recordset(d.feed -> 'latest_purchasers') as p (username text, qty integer, "createdAt" timestamptz)
  where d.name = p_name
$$;

do $$
begin
  perform pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan', 'eve');
  perform pg_temp.make_drop(v.name, 9, v.starts_in, v.ends_in, v.status)
  from (values
    ('live', interval '-3 hours', null::interval, 'live'),
    ('live, to end', '-2 hours', '1 microsecond', 'live'),
    ('live, ended', '-2 hours', '0', 'live'),
    ('live from now', '0', '1 hour', 'live'),
    ('scheduled, started', '-1 hour', null, 'scheduled'),
    ('scheduled, started now', '0', null, 'scheduled'),
    ('scheduled, started and ended', '-1 hour', '0', 'scheduled'),
    ('scheduled, to start', '1 microsecond', null, 'scheduled'),
    ('draft, started', '-1 hour', null, 'draft'),
    ('draft', null, null, 'draft'),
    ('ended', '-1 hour', '1 hour', 'ended'), -- its end is put off by hand, so that only its status takes it off sale
    ('cancelled', '-1 hour', '1 hour', 'cancelled')
  ) as v (name, starts_in, ends_in, status);
end
$$;

select bag_eq(
  'select name from pg_temp.listed()',
  array['live', 'live, to end', 'live from now', 'scheduled, started', 'scheduled, started now'],
  'On sale is what has started and has not ended, scheduled or live, to the microsecond.'
);
select results_eq(
  'select name from pg_temp.listed() order by place',
  $$
    select name from (
      (select 1, name, id from pg_temp.stored_drops() where name in ('live from now', 'scheduled, started now'))
      union all
      (select v.place, v.name, null from (values (2, 'scheduled, started'), (3, 'live, to end'), (4, 'live')) as v (place, name))
    ) as expected (place, name, id)
    order by place, id desc
  $$,
  'The newest start comes first, and of two that start together the greater id.'
);
select results_eq(
  $$
    select
      id, name, price, currency, total_stock, available_stock, variants, starts_at, ends_at, status, paused_at, limit_per_user,
      hold_seconds, rehold_after_seconds, extension_seconds, revision, created_by, "createdAt", "updatedAt", image_url
    from api.list_drops(p_limit => 1000)
    where id = (select pg_temp.drop_id('live, to end'))
  $$,
  $$select * from api.get_drop(pg_temp.drop_id('live, to end'))$$,
  'A drop is listed as get_drop shows it.'
);

-- The feed. Purchases of one transaction have one time, so they are given their own.

create function pg_temp.sell(p_drop text, p_user text, p_age interval, p_status text) returns void language plpgsql as $$
begin
  perform pg_temp.buy(p_drop, p_user);
  update inventory.purchases set created_at = now() - p_age, status = p_status
  where drop_id = pg_temp.drop_id(p_drop) and user_id = pg_temp.user_id(p_user) and created_at = now();
end
$$;

select is(
  (select feed from pg_temp.listed() where name = 'live'), '{"held_stock": 0, "latest_purchasers": []}',
  'A drop without purchases has an empty feed.'
);
do $$
begin
  perform pg_temp.sell('live', 'eve', '0.1 s', status) from unnest(array['pending', 'failed', 'cancelled', 'refunded']) as status;
  perform pg_temp.sell('live', 'bob', '3 minutes', 'paid');
  perform pg_temp.sell('live', 'ann', '2 minutes', 'paid');
end
$$;
select is(
  pg_temp.feed_of('live'), array['ann 1 00:02:00', 'bob 1 00:03:00'],
  'The feed shows paid purchases, the latest first, by name, with quantity and time.'
);
select is(
  (select feed #>> '{latest_purchasers,0,userId}' from pg_temp.listed() where name = 'live')::uuid, pg_temp.user_id('ann'),
  'A purchaser has the user''s id.'
);
do $$
begin
  perform pg_temp.sell('live', 'cat', '1 minute', 'paid');
  perform pg_temp.sell('live', 'dan', '4 minutes', 'paid');
  perform pg_temp.sell('scheduled, started', 'ann', '5 minutes', 'paid');
  perform pg_temp.sell('scheduled, started', 'ann', '4 minutes', 'paid');
  perform pg_temp.hold('live', 'ann');
end
$$;
select is(
  pg_temp.feed_of('live'), array['cat 1 00:01:00', 'ann 1 00:02:00', 'bob 1 00:03:00'], 'The feed is the latest three purchases.'
);
select is(
  pg_temp.feed_of('scheduled, started'), array['ann 1 00:04:00', 'ann 1 00:05:00'],
  'Every drop has a feed of its own, where a user who bought twice is twice.'
);
select results_eq(
  $$select available_stock, activity_feed ->> 'held_stock' from api.list_drops(p_limit => 1000) where id = (select pg_temp.drop_id('live'))$$,
  $$values (0, '1')$$,
  'The stock listed is what is left now; of the nine units that were reserved one is held, because the others were bought.'
);

select * from finish();
rollback;
