-- Each node of a router has the same webhook endpoints: api.webhook_endpoint_copies gives them, api.copy_webhook_endpoint takes them.
begin;
select plan(20);

delete from inventory.webhook_endpoints; -- those of other tests, until the end of this one

create temp table copy (n serial, data json) on commit drop;
-- Keep what another node would get.
create function pg_temp.keep_copy() returns void language sql as $$
  insert into copy (data) select c.data from api.webhook_endpoint_copies() as c (data)
$$;
-- The row of the endpoint, which its copy has to make again.
create function pg_temp.endpoint() returns text language sql stable as $$ select e::text from inventory.webhook_endpoints e $$;

do $$
begin
  perform api.create_webhook_endpoint('https://shop.example/a?b=1', array['drop.updated', 'purchase.paid']);
  update inventory.webhook_endpoints set created_at = now() - interval '3 days', updated_at = now() - interval '3 days';
  perform pg_temp.keep_copy();
  perform api.rotate_webhook_secret(e.id) from inventory.webhook_endpoints e;
  update inventory.webhook_endpoints set updated_at = now() - interval '2 days';
  perform pg_temp.keep_copy();
  perform api.update_webhook_endpoint(e.id, '{"active": false, "url": "https://shop.example/z"}') from inventory.webhook_endpoints e;
  update inventory.webhook_endpoints set updated_at = now() - interval '1 day';
  perform pg_temp.keep_copy();
end
$$;
create temp table row_of on commit drop as
select c.n, (json_populate_record(null::inventory.webhook_endpoints, c.data))::text as row from copy c;
select is((select count(*) from copy), 3::bigint, 'There is a copy of each endpoint.');
select is(pg_temp.endpoint(), (select row from row_of where n = 3), 'It has every column.');

create function pg_temp.copy(p_n integer) returns void language sql as $$
  select api.copy_webhook_endpoint(c.data) from copy c where c.n = p_n
$$;

-- On a node that has none.
do $$ begin delete from inventory.webhook_endpoints; perform pg_temp.copy(2); end $$;
select is(pg_temp.endpoint(), (select row from row_of where n = 2), 'A copy makes the endpoint: the same id, times, types and secrets.');
select is(
  (select array_agg(s.webhook_types) from inventory.settings s)::text, '{{drop.updated,purchase.paid}}',
  'Messages of these types are written from now on.');
do $$ begin perform pg_temp.copy(2); end $$;
select is(pg_temp.endpoint(), (select row from row_of where n = 2), 'The same copy again changes nothing.');
do $$ begin perform pg_temp.copy(1); end $$;
select is(pg_temp.endpoint(), (select row from row_of where n = 2), 'Nor does an older one that comes late.');

-- What waits for an endpoint that another node has turned off is given up.
do $$
begin
  perform pg_temp.make_users('seller');
  perform pg_temp.make_drop('shoes');
  perform api.send_test_webhook(e.id) from inventory.webhook_endpoints e;
  update inventory.webhook_endpoints set failing_since = now() - interval '1 hour';
end
$$;
select is((select array_agg(d.status) from inventory.webhook_deliveries d), '{pending}', 'A delivery waits.');
do $$ begin perform pg_temp.copy(3); end $$;
select is(pg_temp.endpoint(), (select row from row_of where n = 3), 'A newer copy changes the endpoint.');
select is((select array_agg(d.status) from inventory.webhook_deliveries d), '{given_up}', 'It is turned off, so what waited is given up.');
select is_empty('select from inventory.webhook_lanes', 'It has no lanes.');
select is((select array_agg(cardinality(s.webhook_types)) from inventory.settings s), '{0}', 'Nobody wants messages any more.');

-- One that is turned on again.
do $$
begin
  perform api.update_webhook_endpoint(e.id, '{"active": true}') from inventory.webhook_endpoints e;
  perform pg_temp.keep_copy();
  delete from inventory.webhook_endpoints;
  perform pg_temp.copy(3);
  update inventory.webhook_endpoints set failing_since = now() - interval '4 days';
  perform pg_temp.copy(4);
end
$$;
select is((select array_agg(e.is_active) from inventory.webhook_endpoints e), '{t}', 'It is on.');
select is((select array_agg(e.failing_since) from inventory.webhook_endpoints e), '{null}', 'It is not failing any more.');
do $$
begin
  update inventory.webhook_endpoints set failing_since = now() - interval '1 hour', updated_at = now() - interval '5 days';
  perform pg_temp.copy(2);
end
$$;
select is(
  (select array_agg(e.failing_since) from inventory.webhook_endpoints e), array[now() - interval '1 hour'],
  'Since when deliveries from here fail stays.');
do $$
begin
  delete from inventory.webhook_endpoints;
  update copy set data = jsonb_set(data::jsonb, '{failing_since}', to_jsonb(now())) where n = 2;
  perform pg_temp.copy(2);
end
$$;
select is((select array_agg(e.failing_since) from inventory.webhook_endpoints e), '{null}', 'That of another node does not come.');
select is((select count(*) from api.webhook_endpoint_copies()), 1::bigint, 'There is one endpoint.');

-- A later change has a later time, also if both were made at the same moment, so every node keeps the same one.
do $$
begin
  delete from copy;
  perform pg_temp.keep_copy();
  for v_n in 1 .. 2 loop
    perform api.rotate_webhook_secret(e.id) from inventory.webhook_endpoints e;
    perform pg_temp.keep_copy();
    perform api.update_webhook_endpoint(e.id, '{"active": false}') from inventory.webhook_endpoints e;
    perform pg_temp.keep_copy();
  end loop;
end
$$;
select is(
  (select array_agg(c.n order by (c.data ->> 'updated_at')::timestamptz) from copy c), (select array_agg(c.n order by c.n) from copy c),
  'Each change has a later time than the one before.');
select is((select count(distinct c.data ->> 'updated_at') from copy c), 5::bigint, 'No two have the same.');
create temp table changed_at on commit drop as select e.updated_at from inventory.webhook_endpoints e;
do $$ begin perform inventory.disable_webhook_endpoint(e.id, 'gone') from inventory.webhook_endpoints e; end $$;
select is(
  (select e.updated_at from inventory.webhook_endpoints e), (select updated_at from changed_at),
  'That the endpoint is gone is no change that others get.');
do $$ begin perform api.delete_webhook_endpoint(e.id) from inventory.webhook_endpoints e; end $$;
select is_empty('select api.webhook_endpoint_copies()', 'It is deleted as any other.');

select * from finish();
rollback;
