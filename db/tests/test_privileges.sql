-- lastpair_api calls the public functions and touches nothing else, so a bug in an older process cannot touch a table. It can
-- call them as a member of the three roles of test_roles.sql.
begin;
select plan(105);

-- Run a statement as lastpair_api and give back the first column of its first row.
create function pg_temp.as_api(p_sql text) returns text language plpgsql set role = lastpair_api as $$
declare
  v_answer text;
begin
  if current_user <> 'lastpair_api' then
    raise exception 'this is %', current_user;
  end if;
  execute p_sql into v_answer;
  return v_answer;
end
$$;

-- The SQLSTATE a statement fails with when lastpair_api runs it.
create function pg_temp.sqlstate_as_api(p_sql text) returns text language plpgsql as $$
begin
  perform pg_temp.as_api(p_sql);
  return '00000';
exception when others then
  return sqlstate;
end
$$;

create temp table relation on commit drop as
select c.oid::regclass as name, c.relkind = 'S' as is_sequence,
  (select a.attname from pg_attribute a where a.attrelid = c.oid and a.attnum = 1) as first_column
from pg_class c
where c.relnamespace in ('inventory'::regnamespace, 'api'::regnamespace) and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S');

-- All that lastpair_api must not do: touch a relation, call a private function, make or replace an object.
create temp table forbidden on commit drop as
select format(a.template, r.name, r.first_column) as sql
from relation r
join (values
  (false, 'select count(*) from %s'), (false, 'select from %s for update'), (false, 'insert into %s default values'),
  (false, 'update %s set %I = default'), (false, 'delete from %s'), (false, 'truncate %s cascade'),
  (false, 'lock table %s in access share mode'),
  (true, 'select nextval(''%s'')'), (true, 'select setval(''%s'', 1)'), (true, 'select last_value from %s')
) as a (is_sequence, template) on a.is_sequence = r.is_sequence
union all
select format(
  'select %s(%s)', p.oid::regproc,
  (select string_agg(
      format('%s null::%s', case when p.provariadic <> 0 and a.k = p.pronargs then 'variadic' end, format_type(a.type, null)),
      ', ' order by a.k)
    from unnest(p.proargtypes) with ordinality as a (type, k)))
from pg_proc p
where p.pronamespace = 'inventory'::regnamespace and p.prokind = 'f' and p.prorettype <> 'trigger'::regtype
union all
values
  ('create table api.mine (id integer)'), ('create table inventory.mine (id integer)'),
  ('create or replace function api.errors() returns integer language sql as ''select 1''');

-- The role.

select results_eq(
  $$
    select rolcanlogin or rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls
    from pg_roles where rolname = 'lastpair_api'
  $$,
  'values (false)',
  'There is a role for the app, which cannot log in and has no power over the server.'
);
select bag_eq(
  $$select roleid::regrole::text from pg_auth_members where member = 'lastpair_api'::regrole$$,
  $$values ('lastpair_buyer'), ('lastpair_seller'), ('lastpair_service')$$,
  'lastpair_api is a member of the three roles and of no other.'
);
select is_empty(
  $$select from pg_shdepend where refclassid = 'pg_authid'::regclass and refobjid = 'lastpair_api'::regrole and deptype = 'o'$$,
  'lastpair_api owns nothing.'
);

-- What it was granted, by the catalog.

select bag_eq(
  $$
    select n.nspname::text, a.grantee = 0, a.privilege_type
    from pg_namespace n
    cross join lateral aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
    where a.grantee = 'lastpair_api'::regrole or (a.grantee = 0 and n.nspname in ('inventory', 'api'))
  $$,
  $$values ('api', false, 'USAGE')$$,
  'lastpair_api was granted USAGE on api and on no other schema; PUBLIC has nothing on the two schemas.'
);
select isnt_empty($$select from pg_proc where pronamespace = 'api'::regnamespace$$, 'There are public functions.');
select is_empty(
  $$
    select p.oid::regprocedure from pg_proc p
    where p.pronamespace in ('api'::regnamespace, 'inventory'::regnamespace)
      and has_function_privilege('lastpair_api', p.oid, 'execute') <> (p.pronamespace = 'api'::regnamespace)
  $$,
  'lastpair_api may call every public function and no private one.'
);
select is_empty(
  $$
    select p.oid::regprocedure
    from pg_proc p
    cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
    where p.pronamespace in ('inventory'::regnamespace, 'api'::regnamespace) and a.grantee = 0
  $$,
  'PUBLIC may call no function of the two schemas.'
);
select is_empty(
  $$
    select r.name, privilege
    from relation r
    cross join unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger', 'usage']) as privilege
    where case
      when r.is_sequence then
        privilege in ('usage', 'select', 'update') and has_sequence_privilege('lastpair_api', r.name, privilege)
      else
        privilege <> 'usage' and has_table_privilege('lastpair_api', r.name, privilege)
        or privilege in ('select', 'insert', 'update', 'references')
          and has_any_column_privilege('lastpair_api', r.name, privilege)
    end
  $$,
  'lastpair_api was granted nothing on any table, column or sequence.'
);

-- What it can do, really tried. The schema is one wall, the privileges on what is in it another: with the first one open, the
-- second one stands.

select ok(
  (select array_agg(name::text) @> array[
      'inventory.users', 'inventory.drops', 'inventory.reservations', 'inventory.purchases', 'inventory.function_files',
      'inventory.events', 'inventory.changes', 'inventory.events_id_seq', 'inventory.event_key', 'inventory.event_order',
      'inventory.event_epochs', 'inventory.pruned_events', 'inventory.function_sets', 'inventory.idempotency_keys',
      'inventory.settings']
    from relation)
    and exists (select from forbidden where sql like 'select inventory.expire_%'),
  'The tables, the sequence and the private functions are among what is tried here.'
);
select is(pg_temp.as_api('select current_user'), 'lastpair_api', 'What follows is tried as lastpair_api.');
select is_empty(
  $$select sql, pg_temp.sqlstate_as_api(sql) from forbidden where pg_temp.sqlstate_as_api(sql) <> '42501'$$,
  'lastpair_api cannot touch a relation, call a private function, make a table or replace a public function.'
);
grant usage on schema inventory to lastpair_api;
select is_empty(
  $$select sql, pg_temp.sqlstate_as_api(sql) from forbidden where pg_temp.sqlstate_as_api(sql) <> '42501'$$,
  'Nor can it do so with a way into the schema.'
);
revoke usage on schema inventory from lastpair_api;

-- A whole sale needs nothing but the public functions. %1$L is the user, %2$L the drop.

create temp table sale on commit drop as
select
  pg_temp.as_api($$select id from api.create_user('privileges ' || gen_random_uuid())$$)::uuid as user_id, null::uuid as drop_id;
update sale set drop_id = pg_temp.as_api(format('select id from api.create_drop(''api'', 10, 3, %L, now())', user_id))::uuid;

select is(pg_temp.as_api(format('select ' || v.call, s.user_id, s.drop_id)), v.expected, 'lastpair_api can call ' || v.function)
from sale s
cross join (values
  (1, 'reserve', 'status from api.reserve(%2$L, %1$L)', 'ACTIVE'),
  (2, 'purchase', 'status from api.purchase(%2$L, %1$L)', 'paid'),
  (3, 'list_drops', 'name from api.list_drops(p_limit => 1000) where id = %2$L', 'api'),
  (4, 'get_drop', 'available_stock from api.get_drop(%2$L)', '2'),
  (5, 'my_purchases', 'status from api.my_purchases(%1$L)', 'paid'),
  (6, 'refund_purchase', 'r.status from api.my_purchases(%1$L) p, api.refund_purchase(p.id) r', 'refunded'),
  (7, 'reserve_batch', 'status from api.reserve_batch(array[row(%2$L, %1$L, null, null, null)]::api.reserve_request[])', '201'),
  (8, 'my_reservations', 'status from api.my_reservations(%1$L)', 'ACTIVE'),
  (9, 'purchase_batch', 'status from api.purchase_batch(array[row(%2$L, %1$L, null, null)]::api.purchase_request[])', '201'),
  (10, 'reserve', 'status from api.reserve(%2$L, %1$L, ''key'')', 'ACTIVE'),
  (11, 'cancel_reservation', 'c.status from api.my_reservations(%1$L) r, api.cancel_reservation(r.id, %1$L) c', 'CANCELLED'),
  (12, 'cancel_batch',
    'c.status from api.reserve(%2$L, %1$L, ''key'') r, api.cancel_batch(array[row(r.id, %1$L)]::api.cancel_request[]) c', '200'),
  (12.1, 'reserve_basket', '((b.basket).reservations[1]).status from api.reserve_basket(%1$L, array[row(%2$L, null, 1)]::api.basket_item[]) b', 'ACTIVE'),
  (12.2, 'get_basket', '(b.reservations[1]).status from api.my_reservations(%1$L) r, api.get_basket(r.basket_id, %1$L) b', 'ACTIVE'),
  (12.3, 'cancel_basket',
    '(b.reservations[1]).status from api.my_reservations(%1$L) r, api.cancel_basket(r.basket_id, %1$L) b', 'CANCELLED'),
  (12.4, 'purchase_basket', '(p.purchase).status from api.reserve_basket(%1$L, array[row(%2$L, null, 1)]::api.basket_item[]) b, api.purchase_basket((b.basket).id, %1$L) p', 'paid'),
  (12.5, 'refund_purchase_outcome',
    'o.status from api.my_purchases(%1$L, 1) p, api.refund_purchase_outcome(p.id, %1$L, ''key'') o', '200'),
  (12.6, 'update_drop', 'extension_seconds from api.update_drop(%2$L, ''{"extension_seconds": 9}'')', '9'),
  (12.7, 'extend_reservation',
    '(e.reservation).status from api.reserve(%2$L, %1$L) r, api.extend_reservation(r.id, %1$L) e', 'ACTIVE'),
  (13, 'update_drop', 'status from api.update_drop(%2$L, ''{"status": "cancelled"}'')', 'cancelled'),
  (13.1, 'cancel_drop', 'remaining from api.cancel_drop(%2$L)', '0'),
  (14, 'ensure_user', 'username <> '''' from api.ensure_user(%1$L)', 'true'),
  (15, 'ensure_user_batch', 'status from api.ensure_user_batch(array[row(%1$L, null)]::api.user_request[])', '200'),
  (16, 'expire_reservations', 'count(*) >= 0 from api.expire_reservations(1)', 'true'),
  (17, 'advance_drops', 'count(*) >= 0 from api.advance_drops()', 'true'),
  (18, 'audit', 'count(*) >= 0 from api.audit()', 'true'),
  (19, 'errors', 'count(*) > 0 from api.errors()', 'true'),
  (20, 'snapshot', 'type from api.snapshot()', 'SNAPSHOT'),
  (21, 'events_after', 'type from api.events_after(9223372036854775807)', 'RESYNC_REQUIRED'),
  (21.1, 'activity', '"position"::bigint >= 0 from api.activity()', 'true'),
  (22, 'prune_events', 'api.prune_events(3600) >= 0', 'true'),
  (23, 'event_key', 'octet_length(api.event_key())', '64'),
  (24, 'deployed', 'count(*) > 0 from api.deployed()', 'true'),
  (25, 'ensure_epoch', 'api.ensure_epoch()', 'false'),
  (26, 'list_purchases', 'status from api.list_purchases(%2$L, ''refunded'')', 'refunded'),
  (27, 'list_reservations', 'status from api.list_reservations(%2$L, ''CONSUMED'', p_limit => 1)', 'CONSUMED'),
  (28, 'refund_drop', 'remaining from api.refund_drop(%2$L)', '0'),
  (29, 'get_purchase', 'g.status from api.my_purchases(%1$L, 1) p, api.get_purchase(p.id, %1$L) g', 'refunded'),
  (30, 'get_reservation', 'g.status from api.my_purchases(%1$L, 1) p, api.get_reservation(p.reservation_id, %1$L) g', 'CONSUMED'),
  (31, 'reservation_history', 'h.action from api.my_purchases(%1$L, 1) p, api.reservation_history(p.reservation_id, %1$L) h',
    'reserved'),
  (32, 'history', 'action from api.history(%2$L)', 'refunded'),
  (33, 'help', 'count(*) > 20 from api.help()', 'true'),
  (34, 'is_superseded', 'api.is_superseded('''')', 'false'),
  (35, 'create_drop_from_json',
    'status from api.create_drop_from_json(''{"name": "a", "price": 1, "total_stock": 1}'', %1$L, ''k'')', '201'),
  (36, 'create_user_outcome', 'status from api.create_user_outcome(''privileges of a retry'', ''k'')', '201'),
  (37, 'prune_idempotency_keys', 'api.prune_idempotency_keys(86400) >= 0', 'true'),
  (38, 'set_purchaser_names', 'api.set_purchaser_names(''full'')', ''),
  (38.01, 'set_payment_provider', 'api.set_payment_provider(''stripe'', 600)', ''),
  (38.02, 'purchase', 'r.status from api.create_drop(''paid'', 1, 2, %1$L, now()) d, api.reserve(d.id, %1$L) h, api.purchase(d.id, %1$L) r',
    'pending'),
  (38.03, 'get_payment', 'y.status from api.my_purchases(%1$L, 1) p, api.get_payment(p.payment_id, %1$L) y', 'pending'),
  (38.04, 'list_payments', 'l.status from api.my_purchases(%1$L, 1) p, api.list_payments(p.drop_id) l', 'pending'),
  (38.05, 'drop_money', 'm.open from api.my_purchases(%1$L, 1) p, api.drop_money(p.drop_id) m', '1.00'),
  (38.06, 'take_provider_calls', 't.action from api.my_purchases(%1$L, 1) p, api.take_provider_calls(1, 60, p.payment_id) t', 'create'),
  (38.07, 'list_provider_calls', 'c.status from api.my_purchases(%1$L, 1) p, api.list_provider_calls(p.drop_id) c', 'open'),
  (38.08, 'fail_provider_call',
    'api.fail_provider_call(c.id, ''no answer'') from api.my_purchases(%1$L, 1) p, api.list_provider_calls(p.drop_id) c', ''),
  (38.09, 'retry_provider_call',
    'r.status from api.my_purchases(%1$L, 1) p, api.list_provider_calls(p.drop_id) c, api.retry_provider_call(c.id) r', 'open'),
  (38.10, 'finish_provider_call',
    'api.finish_provider_call(c.id) from api.my_purchases(%1$L, 1) p, api.list_provider_calls(p.drop_id) c', ''),
  (38.11, 'record_payment_event', 'e.outcome from api.my_purchases(%1$L, 1) p, api.record_payment_event(row(''stripe'',
    gen_random_uuid(), p.payment_id, null, ''failed'', null, null, null, ''{}'', null)::api.payment_event) e', 'applied'),
  (38.12, 'cancel_payment', 'c.status from api.my_purchases(%1$L, 1) p, api.cancel_payment(p.payment_id, %1$L) c', 'cancelled'),
  (38.13, 'expire_payments', 'api.expire_payments() >= 0', 'true'),
  (38.14, 'list_payment_problems', 'count(*) >= 0 from api.list_payment_problems()', 'true'),
  (38.15, 'unsettled_payments', 'count(*) >= 0 from api.unsettled_payments()', 'true'),
  (39, 'currencies', 'count(*) > 100 from api.currencies()', 'true'),
  (40, 'forget_user', 'username like ''former-user-%%'' from api.forget_user(%1$L)', 'true'),
  (41, 'create_webhook_endpoint',
    '(endpoint).active from api.create_webhook_endpoint(''https://shop.example'', array[''drop.updated''])', 'true'),
  (42, 'list_webhook_endpoints', 'url from api.list_webhook_endpoints(1)', 'https://shop.example'),
  (43, 'get_webhook_endpoint', 'g.url from api.list_webhook_endpoints(1) e, api.get_webhook_endpoint(e.id) g', 'https://shop.example'),
  (44, 'rotate_webhook_secret',
    'length(r.secret) from api.list_webhook_endpoints(1) e, api.rotate_webhook_secret(e.id) r', '50'),
  (45, 'send_test_webhook',
    '(t.delivery).type from api.list_webhook_endpoints(1) e, api.send_test_webhook(e.id) t', 'webhook.test'),
  (46, 'list_webhook_deliveries',
    'd.status from api.list_webhook_endpoints(1) e, api.list_webhook_deliveries(e.id) d', 'pending'),
  (47, 'replay_webhook_delivery',
    '(r.delivery).status from api.list_webhook_endpoints(1) e, api.list_webhook_deliveries(e.id) d, '
    'api.replay_webhook_delivery(d.id) r', 'pending'),
  (48, 'fan_out_webhooks', 'api.fan_out_webhooks(1000) >= 0', 'true'),
  (49, 'webhook_backlog', 'pending from api.webhook_backlog()', '1'),
  (50, 'take_webhook_deliveries', 'url from api.take_webhook_deliveries(''{}'', 4, 50, 30)', 'https://shop.example'),
  (51, 'finish_webhook_deliveries', 'api.finish_webhook_deliveries(null, null, null, ''[]'', false)', ''),
  (52, 'prune_webhooks', 'api.prune_webhooks(604800, 1000) >= 0', 'true'),
  (53, 'update_webhook_endpoint',
    'u.active from api.list_webhook_endpoints(1) e, api.update_webhook_endpoint(e.id, ''{"active": false}'') u', 'false'),
  (54, 'delete_webhook_endpoint', 'x.active from api.list_webhook_endpoints(1) e, api.delete_webhook_endpoint(e.id) x', 'false'),
  (55, 'count_watchers', 'watchers >= 0 from api.count_watchers(gen_random_uuid(), 0)', 'true'),
  (56, 'node', 'api.node() between 0 and 255', 'true'),
  (57, 'load', 'api.load() >= 0', 'true'),
  (58, 'claim_names', 'is_granted from api.claim_names(array[row(%1$L, ''privileges of a name'')]::api.user_request[])', 'true'),
  (59, 'release_name', 'api.release_name(%1$L)', ''),
  (60, 'names_of', 'is_forgotten from api.names_of(array[%1$L]::uuid[])', 'true'),
  (61, 'cursor_time', 'isfinite(api.cursor_time(''list_drops'', %2$L))', 'true'),
  (62, 'copy_webhook_endpoint',
    'api.copy_webhook_endpoint(c) from (select api.webhook_endpoint_copies() union all select ''{"id": "01a202a2-e18f-7d92-8fac-e3384b7a3441", '
    '"url": "https://copy.example", "event_types": ["drop.updated"], "is_active": true, "secret": "x", "created_at": "-infinity", '
    '"updated_at": "-infinity"}'') as c (c)', ''),
  (63, 'webhook_endpoint_copies', 'c ->> ''url'' from api.webhook_endpoint_copies() as c (c) limit 1', 'https://copy.example'),
  (64, 'has_idempotency_key', 'api.has_idempotency_key(%1$L, ''none'')', 'false'),
  (65, 'knows_payment', 'api.knows_payment(''stripe'', ''none'')', 'false'),
  (66, 'open_work', 'max(number) >= 0 from api.open_work()', 'true')
) as v (n, function, call, expected)
order by v.n;

-- Functions that run with the owner's rights.

select is_empty(
  $$
    select p.oid::regprocedure from pg_proc p
    where p.pronamespace in ('inventory'::regnamespace, 'api'::regnamespace)
      and p.prosecdef <> (p.pronamespace = 'api'::regnamespace) and p.prorettype <> 'trigger'::regtype
      and p.oid <> 'api.call(text, text, text, json)'::regprocedure -- it sets a role, which a function with the owner's rights cannot
  $$,
  'Every public function but api.call runs with the owner''s rights; no private one does, except triggers.'
);
select is_empty(
  $$
    select p.oid::regprocedure, p.proconfig from pg_proc p
    where p.pronamespace in ('inventory'::regnamespace, 'api'::regnamespace) and p.prosecdef
      and not coalesce('search_path=pg_catalog, pg_temp' = any (p.proconfig), false)
  $$,
  'Every one that does has a pinned search_path, in which a caller can put nothing ahead of pg_catalog.'
);
select is_empty(
  $$
    select p.oid::regprocedure from pg_proc p
    where p.pronamespace in ('inventory'::regnamespace, 'api'::regnamespace) and obj_description(p.oid, 'pg_proc') is null
  $$,
  'Every function says what it does.'
);

select * from finish();
rollback;
