-- api.list_drops shows what is on sale now and who bought last: by the times, whether or not the clock's sweep has been by.
begin;
select plan(13);

create function pg_temp.feed_of(p_name text) returns jsonb language sql stable as $$
  select d.activity_feed::jsonb from api.list_drops() d where d.id = (select pg_temp.drop_id(p_name))
$$;

do $$
begin
  perform api.ensure_user(pg_temp.user_id('seller'));
  perform api.ensure_user(pg_temp.user_id(name), 'pgtap list_drops ' || name)
  from unnest(array['ann', 'bob', 'cat', 'dan', 'eve']) as name;
end
$$;

create function pg_temp.new_drop(p_name text, p_starts_in interval, p_ends_in interval, p_status text)
returns void language sql as $$
  select api.create_drop(p_name, 10, 9, pg_temp.user_id('seller'), now() + p_starts_in, now() + p_ends_in, p_status)
$$;

do $$
begin
  perform pg_temp.new_drop(v.name, v.starts_in, v.ends_in, v.status)
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
    ('ended', '-1 hour', '1 hour', 'live'),
    ('cancelled', '-1 hour', '1 hour', 'live')
  ) as v (name, starts_in, ends_in, status);
  perform api.update_drop(pg_temp.drop_id('ended'), '{"status": "ended"}');
  -- Its end is put off again, so that only its status takes it off sale.
  perform api.update_drop(pg_temp.drop_id('ended'), '{"ends_at": null}');
  perform api.update_drop(pg_temp.drop_id('cancelled'), '{"status": "cancelled"}');
end
$$;

select bag_eq(
  $$select name from api.list_drops() where created_by = pg_temp.user_id('seller')$$,
  array['live', 'live, to end', 'live from now', 'scheduled, started', 'scheduled, started now'],
  'On sale is what has started and has not ended, scheduled or live, to the microsecond.'
);
select results_eq(
  $$select id from api.list_drops() where created_by = pg_temp.user_id('seller')$$,
  $$
    select id from inventory.drops
    where id in (select id from api.list_drops()) and created_by = pg_temp.user_id('seller')
    order by starts_at desc, id desc
  $$,
  'The newest start comes first, and of two that start together the greater id.'
);
select is(
  (select (array_agg(name))[3:] from (select name from api.list_drops() where created_by = pg_temp.user_id('seller')) listed),
  array['scheduled, started', 'live, to end', 'live'],
  'A drop that started an hour ago comes before one that started two hours ago.'
);
select is(
  (select array_agg(key) from api.list_drops() d, json_object_keys(to_json(d)) as key
    where d.id = (select pg_temp.drop_id('live'))),
  array[
    'id', 'name', 'price', 'total_stock', 'available_stock', 'starts_at', 'ends_at', 'status', 'created_by', 'createdAt',
    'updatedAt',
    'activity_feed'
  ],
  'The row has the names of the wire.'
);
select results_eq(
  $$
    select id, name, price, total_stock, available_stock, starts_at, ends_at, status, created_by, "createdAt", "updatedAt"
    from api.list_drops()
    where id = (select pg_temp.drop_id('live, to end'))
  $$,
  $$select * from api.get_drop(pg_temp.drop_id('live, to end'))$$,
  'A drop is listed as get_drop shows it.'
);

-- The feed. Purchases of one transaction have one time, so they are given their own.

create function pg_temp.buy(p_drop text, p_user text, p_age interval, p_status text) returns void language plpgsql as $$
declare
  v_purchase_id uuid;
begin
  perform api.reserve(pg_temp.drop_id(p_drop), pg_temp.user_id(p_user));
  v_purchase_id := (select id from api.purchase(pg_temp.drop_id(p_drop), pg_temp.user_id(p_user)));
  update inventory.purchases set created_at = now() - p_age, status = p_status where id = v_purchase_id;
end
$$;

select is(pg_temp.feed_of('live'), '{"held_stock": 0, "latest_purchasers": []}', 'A drop that nobody bought has an empty feed.');

do $$
begin
  perform pg_temp.buy('live', 'bob', '3 minutes', 'paid');
  perform pg_temp.buy('live', 'ann', '2 minutes', 'paid');
end
$$;
select is(
  (select array_agg(key) from api.list_drops() d, json_object_keys(d.activity_feed -> 'latest_purchasers' -> 0) as key
    where d.id = (select pg_temp.drop_id('live'))),
  array['userId', 'username', 'qty', 'createdAt'],
  'A purchaser has the names of the wire.'
);
select is(
  (pg_temp.feed_of('live') #>> '{latest_purchasers,0,userId}')::uuid, pg_temp.user_id('ann'),
  'The latest purchaser comes first, by id,'
);
select results_eq(
  $$
    select p.username, p.qty, p."createdAt"
    from jsonb_to_recordset(pg_temp.feed_of('live') -> 'latest_purchasers')
      as p (username text, qty integer, "createdAt" timestamptz)
  $$,
  $$
    values
      ('pgtap list_drops ann', 1, now() - interval '2 minutes'),
      ('pgtap list_drops bob', 1, now() - interval '3 minutes')
  $$,
  'by name, with quantity and time.'
);

do $$
begin
  perform pg_temp.buy('live', 'cat', '1 minute', 'paid');
  perform pg_temp.buy('live', 'dan', '4 minutes', 'paid');
  perform pg_temp.buy('live', 'eve', '0', status) from unnest(array['pending', 'failed', 'cancelled', 'refunded']) as status;
  perform pg_temp.buy('scheduled, started', 'ann', '5 minutes', 'paid');
  perform pg_temp.buy('scheduled, started', 'ann', '4 minutes', 'paid');
end
$$;
select is(
  (select array_agg(p ->> 'username') from jsonb_array_elements(pg_temp.feed_of('live') -> 'latest_purchasers') p),
  array['pgtap list_drops cat', 'pgtap list_drops ann', 'pgtap list_drops bob'],
  'The feed is the latest three purchases, paid ones only.'
);
select is(
  (select array_agg(p ->> 'username') from jsonb_array_elements(pg_temp.feed_of('scheduled, started') -> 'latest_purchasers') p),
  array['pgtap list_drops ann', 'pgtap list_drops ann'],
  'Every drop has a feed of its own, where a user who bought twice is twice.'
);
select is(
  (select available_stock from api.list_drops() where id = (select pg_temp.drop_id('live'))), 1,
  'The stock listed is what is left now.'
);

do $$
begin
  perform api.reserve(pg_temp.drop_id('live'), pg_temp.user_id('ann'));
end
$$;
select is(
  (pg_temp.feed_of('live') ->> 'held_stock')::integer, 1, 'Of the units that were reserved, one is held: the others were bought.'
);

select * from finish();
rollback;
