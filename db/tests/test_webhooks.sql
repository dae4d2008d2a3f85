-- Outbound webhooks: which messages a transaction writes, to whom they are delivered, in which order, and what becomes of an
-- attempt.
begin;
select plan(41);

create temp table at as
select
  (select id from api.create_user('webhook seller ' || gen_random_uuid())) as seller,
  (select id from api.create_user('webhook buyer ' || gen_random_uuid())) as buyer;
create temp table told as select 0::bigint as id;

-- What the changes since the last call have told, as a commit would.
create function pg_temp.told() returns text language plpgsql as $$
declare
  v_said text;
begin
  set constraints all immediate;
  set constraints all deferred;
  select string_agg(m.type, ' ' order by m.id) into v_said
  from inventory.webhook_messages m
  where m.id > (select t.id from told t);
  update told set id = coalesce((select max(m.id) from inventory.webhook_messages m), 0);
  return coalesce(v_said, '');
end
$$;
create function pg_temp.new_drop(p_stock integer, p_terms jsonb default '{}') returns uuid language sql as $$
  select d.id from at, api.create_drop('webhooks', 10, p_stock, at.seller, now(), p_terms => p_terms) d
$$;
delete from inventory.webhook_endpoints;
create temp table shoes as select pg_temp.new_drop(2) as id;

-- Without an endpoint nothing is written.

select is(pg_temp.told(), '', 'Nobody is told without an endpoint.');
select is(
  pg_temp.refusal(format('select api.create_webhook_endpoint(%L, %L)', v.url, v.types)), v.expected, v.description
)
from (values
  ('shop.example', '{drop.created}', 'PT400 VALIDATION_ERROR: url: must be an http or https URL of at most 2000 characters, in ASCII, without a user, a password and a fragment', 'A URL has a scheme.'),
  (null, '{drop.created}', 'PT400 VALIDATION_ERROR: url: must be an http or https URL of at most 2000 characters, in ASCII, without a user, a password and a fragment', 'An endpoint has a URL.')
) as v (url, types, expected, description);
select matches(
  pg_temp.refusal(format('select api.create_webhook_endpoint(''https://shop.example'', %L)', types)), '^PT400 VALIDATION_ERROR: event_types: ',
  'The types are some of those that there are.')
from (values ('{}'), ('{purchase.made}'), (null)) v (types);

create temp table endpoints as
select (e.endpoint).id, e.secret
from api.create_webhook_endpoint(
  'https://shop.example/hook',
  array['purchase.pending', 'purchase.paid', 'purchase.cancelled', 'purchase.refunded', 'hold.expired', 'drop.created', 'drop.updated',
    'drop.sold_out', 'drop.cancelled', 'payment.flagged']) e;
select matches(secret, '^whsec_[A-Za-z0-9+/]{43}=$', 'The secret is 32 bytes in base64.') from endpoints;
select is(cardinality(webhook_types), 10, 'The flag has the types that are wanted.') from inventory.settings;

-- What a transaction tells. One that is tried here is one transaction to the caller, and many to the triggers.

create temp table boots as select pg_temp.new_drop(2) as id;
select is(pg_temp.told(), 'drop.created', 'A drop is made.');
do $$ begin perform from at, boots, api.reserve(boots.id, at.buyer, p_qty => 2) r; end $$;
select is(pg_temp.told(), '', 'A reserve tells nothing, also if it takes the last unit.');
do $$ begin perform from at, boots, api.purchase(boots.id, at.buyer) p; end $$;
select is(pg_temp.told(), 'purchase.paid drop.sold_out', 'The last unit is paid.');
do $$ begin perform from at, api.my_purchases(at.buyer, 1) p, api.refund_purchase(p.id, p_qty => 1) r; end $$;
select is(pg_temp.told(), 'purchase.refunded', 'A unit is refunded.');
select is(
  (select m.data -> 'purchase' ->> 'status' || ' ' || (m.data -> 'purchase' ->> 'refunded_qty')
    from inventory.webhook_messages m order by m.id desc limit 1),
  'paid 1', 'The message has the purchase as it is then.');
do $$ begin perform from at, boots, api.reserve(boots.id, at.buyer) r; end $$;
do $$ begin perform pg_temp.told(); end $$;
update inventory.reservations set expires_at = now() - interval '1 s' where drop_id = (select id from boots) and status = 'ACTIVE';
do $$ begin perform from api.expire_reservations(1000); end $$;
select is(pg_temp.told(), 'hold.expired', 'A hold runs out.');
do $$ begin perform from boots, api.update_drop(boots.id, '{"name": "Boots"}'); end $$;
select is(pg_temp.told(), 'drop.updated', 'A drop is changed.');
do $$ begin perform from boots, api.update_drop(boots.id, '{"add_stock": -1}'); end $$;
select is(pg_temp.told(), 'drop.updated drop.sold_out', 'The last unit is taken off sale.');
do $$ begin perform from boots, api.cancel_drop(boots.id, true); end $$;
select is(pg_temp.told(), 'purchase.refunded drop.cancelled', 'A drop is cancelled and its sale refunded, in one transaction.');
select is(
  (select string_agg(m.data -> 'drop' ->> 'status', ' ' order by m.id) from inventory.webhook_messages m
    where m.drop_id = (select id from boots) and m.type like 'drop.%'),
  'live live live live live cancelled', 'Each message has the drop as it was.');
create temp table draft as select d.id from at, api.create_drop('draft', 10, 1, at.seller, null) d;
select is(pg_temp.told(), 'drop.created', 'A draft is told of, because endpoints are the seller''s.');

select is_empty(
  $$select from inventory.events e where e.data::text ~ 'secret|refunded_qty'$$, 'Public events have nothing of it.');

-- Fan-out and lanes.

select is(
  (select count(*) from inventory.webhook_deliveries), 0::bigint, 'A transaction makes no deliveries.');
select cmp_ok(api.fan_out_webhooks(1000), '>', 8, 'They are made of the messages,');
select is(api.fan_out_webhooks(1000), 0, 'once.');
select bag_eq(
  'select lane from inventory.webhook_lanes', 'select id from boots union all select id from draft', 'Each drop is a lane.');
create temp table taken as select row_number() over () as n, t.* from api.take_webhook_deliveries('{}', 4, 5, 30) t;
select is(
  (select count(*) || ' of ' || count(distinct lane) from taken), '6 of 2', 'At most so many of a lane are taken.');
select results_eq(
  $$select t.webhook_id from taken t, boots where t.lane = boots.id order by t.n$$,
  $$select m.message_id from inventory.webhook_messages m, boots where m.drop_id = boots.id order by m.id limit 5$$,
  'They are in the order of the messages.');
select matches(
  (select body from taken limit 1),
  '^\{"type":"drop.created","timestamp":"[0-9T:.-]+\+00:00","data":\{"drop":\{"id":.*\}\}\}$', 'The body is made here, with times in UTC.');
select is_empty('select * from api.take_webhook_deliveries(''{}'', 4, 5, 30)', 'A lane is leased once.');
update inventory.webhook_lanes set next_attempt_at = now();
select is(
  (select count(distinct lane) from api.take_webhook_deliveries(array[(select id from endpoints), (select id from endpoints)], 3, 5, 30)),
  1::bigint, 'A process has at most so many lanes of an endpoint. A lease that has ended is given again.');

create function pg_temp.finish(p_error text, p_status integer default 200, p_is_gone boolean default false) returns text
language plpgsql as $$
declare
  v_lane inventory.webhook_lanes;
  v_delivery uuid;
begin
  update inventory.webhook_lanes l set next_attempt_at = now() where l.lane = (select b.id from boots b);
  perform api.take_webhook_deliveries('{}', 4, 5, 30);
  select * into v_lane from inventory.webhook_lanes l where l.lane = (select b.id from boots b);
  select d.id into v_delivery from inventory.webhook_deliveries d
  where d.lane = v_lane.lane and d.status = 'pending' order by d.message limit 1;
  perform api.finish_webhook_deliveries(
    v_lane.endpoint_id, v_lane.lane, v_lane.lease,
    json_build_array(json_build_object('id', v_delivery, 'status', p_status, 'error', p_error)), p_is_gone);
  return (
    select concat_ws(' ', d.status, d.attempts, d.last_status, d.last_error)
    from inventory.webhook_deliveries d where d.id = v_delivery);
end
$$;
select is(pg_temp.finish('answered 500', 500), 'pending 1 500 answered 500', 'An attempt fails.');
select ok(
  (select extract(epoch from l.next_attempt_at - now()) between 4 and 6 from inventory.webhook_lanes l, boots where l.lane = boots.id),
  'The next one is after 5 seconds,');
select is(pg_temp.finish('answered 500', 500), 'pending 2 500 answered 500', 'fails, too,');
select ok(
  (select extract(epoch from l.next_attempt_at - now()) between 8 and 12 from inventory.webhook_lanes l, boots where l.lane = boots.id),
  'and the one after it is after 10.');
select isnt((select failing_since from inventory.webhook_endpoints), null, 'The endpoint is failing.');
select is(pg_temp.finish(null), 'delivered 3 200', 'It succeeds,');
select is((select failing_since from inventory.webhook_endpoints), null, 'and is not failing any more.');
select lives_ok(
  $$select api.finish_webhook_deliveries(l.endpoint_id, l.lane, gen_random_uuid(), '[]', true) from inventory.webhook_lanes l$$,
  'Results of a lease that is over are dropped:');
select is((select is_active from inventory.webhook_endpoints), true, 'they disable nothing.');
select is(pg_temp.finish('answered 410', 410, true), 'given_up 1 410 answered 410', 'A message for an endpoint that is gone is given up,');
select is(
  (select disabled_reason from inventory.webhook_endpoints) || ' ' || (select count(*) from inventory.webhook_lanes),
  'gone 0', 'and all others.');
select is((select webhook_types from inventory.settings), '{}', 'Nobody wants messages any more.');

select * from finish();
rollback;
