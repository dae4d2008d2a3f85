-- api.call calls a public function as one of the three roles and returns what it refuses. A router needs that of its nodes.
begin;
select plan(44);

do $$
begin
  perform pg_temp.make_users('seller', 'ann', 'bob');
  perform pg_temp.make_drop('shoes', 2);
end
$$;

create function pg_temp.call(p_function text, p_arguments jsonb default '{}', p_role text default 'lastpair_service', p_claims text default null)
returns table (status integer, code text, message text, rows json) language sql as $$
  select * from api.call(p_role, p_claims, p_function, p_arguments::json)
$$;
create function pg_temp.claims_of(p_name text) returns text language sql as $$
  select json_build_object('sub', pg_temp.user_id(p_name))::text
$$;

-- What comes back.

select is(c::text, '(200,,,[0])', 'A value that is no row comes bare.') from pg_temp.call('node') c;
select is(c::text, '(200,,,[])', 'Nothing comes from a function that returns nothing.')
from pg_temp.call('release_name', jsonb_build_object('p_user_id', pg_temp.user_id('ann'))) c;
select is(c::text, '(200,,,[])', 'Nor from one that has no rows.')
from pg_temp.call('my_reservations', jsonb_build_object('p_user_id', pg_temp.user_id('ann'))) c;
select is(
  (select json_agg(e) from api.errors() e)::jsonb, (c.rows)::jsonb, 'Rows come as objects, in the order of the function.')
from pg_temp.call('errors') c;
select is(
  (json_populate_record(null::api.drop_row, c.rows -> 0))::text, (select d from pg_temp.stored_drops() d where d.name = 'shoes')::text,
  'The whole row can be made of it again: numbers, times, arrays, nulls.')
from pg_temp.call('get_drop', jsonb_build_object('p_drop_id', pg_temp.drop_id('shoes'))) c;
select is(
  (c.rows ->> 0)::bytea, api.event_key(), 'Bytes come as PostgreSQL writes them.') from pg_temp.call('event_key') c;
select is(
  (c.rows -> 0 -> 'data')::text, (select to_json(u)::text from api.ensure_user(pg_temp.user_id('ann')) u),
  'JSON comes as it is.')
from pg_temp.call(
  'ensure_user_batch', jsonb_build_object('p_requests', jsonb_build_array(jsonb_build_object('user_id', pg_temp.user_id('ann'))))) c;

-- What goes in. Each function is called by the names of its arguments.

create temp table made on commit drop as
select json_populate_record(null::api.drop_row, c.rows -> 0) as d
from api.call('lastpair_service', null, 'create_drop', json_build_object(
  'p_name', 'it''s "quoted" \ $1 %s', 'p_price', 1234567890.12, 'p_total_stock', null, 'p_created_by', pg_temp.user_id('seller'), 'p_ends_at', null,
  'p_starts_at', '2026-01-01T00:00:00.123456+02:00', 'p_terms', json_build_object('hold_seconds', 77),
  'p_variants', json_build_array(json_build_object('name', 'S', 'total_stock', 2), json_build_object('name', 'M', 'total_stock', 3))
)) c;
select is((m.d).name, 'it''s "quoted" \ $1 %s', 'Text goes in as it is.') from made m;
select is((m.d).price, 1234567890.12, 'So do numbers,') from made m;
select is((m.d).starts_at, '2026-01-01T00:00:00.123456+02:00'::timestamptz, 'times,') from made m;
select is((m.d).hold_seconds, 77, 'and JSON.') from made m;
select is((m.d).total_stock, 5, 'A null is null: no units are given besides the variants.') from made m;
select is((m.d).currency, 'USD', 'What is left out has its default.') from made m;
select is(
  (select json_agg(c.row ->> 'status' order by c.n) from json_array_elements(c.rows) with ordinality as c (row, n))::text,
  '["201", "201", "409"]', 'An array of a composite type goes in as an array of objects, and the outcomes come in order.')
from pg_temp.call('reserve_batch', jsonb_build_object('p_requests', jsonb_build_array(
  jsonb_build_object('drop_id', pg_temp.drop_id('shoes'), 'user_id', pg_temp.user_id('ann')),
  jsonb_build_object('drop_id', pg_temp.drop_id('shoes'), 'user_id', pg_temp.user_id('bob'), 'idempotency_key', 'k'),
  jsonb_build_object('drop_id', pg_temp.drop_id('shoes'), 'user_id', pg_temp.user_id('seller'), 'qty', null)))) c;
select is(
  (select array_agg(u ->> 'username' order by u ->> 'username') from json_array_elements(c.rows) u), array['pgtap ann', 'pgtap bob'],
  'An array of ids goes in as an array.')
from pg_temp.call('names_of', jsonb_build_object('p_user_ids', pg_temp.user_ids('ann', 'bob'))) c;
select is(
  (c.rows -> 0 ->> 'type'), 'RESYNC_REQUIRED', 'Of two functions of one name the arguments choose the one.')
from pg_temp.call('events_after', '{"p_after": 9223372036854775807}') c;
select ok(
  (c.rows -> 0)::jsonb ? 'user_id', 'The other one has a column more.')
from pg_temp.call('events_after', '{"p_after": 9223372036854775807, "p_limit": 1, "p_drop_ids": null, "p_user_id": null}') c;
select is(c.status, 200, 'No object is as one without arguments.') from api.call('lastpair_service', null, 'node', null) c;

-- Refusals.

create function pg_temp.creating(p_status text) returns text language sql as $$
  select concat_ws(' ', c.status, c.code, c.message)
  from pg_temp.call('create_drop', jsonb_build_object(
    'p_name', 'new', 'p_price', 1, 'p_total_stock', 1, 'p_created_by', pg_temp.user_id('seller'), 'p_status', p_status,
    'p_idempotency_key', 'key')) c
$$;
select is(
  pg_temp.creating('ended'), '400 VALIDATION_ERROR status: a new drop is draft, scheduled or live',
  'A refusal is returned: status, code and sentence.');
select is(
  pg_temp.creating('draft'), '200', 'What it had written was undone: the key may come with another request.');
select is(pg_temp.creating('live'), '422 IDEMPOTENCY_KEY_REUSED This Idempotency-Key came with another request before. Use a new one for a new request.', 'What was not refused was kept.');
select ok(c.rows is null, 'A refusal has no rows.')
from pg_temp.call('get_drop', jsonb_build_object('p_drop_id', pg_temp.user_id('ann'))) c;
select is(
  pg_temp.refusal($$select api.call('lastpair_service', null, 'ensure_user', '{"p_user_id": "ann"}')$$),
  '22P02 invalid input syntax for type uuid: "ann": ', 'What is no refusal is raised.');

-- Who calls.

select is(c.status, v.status, v.description)
from (values
  ('lastpair_buyer', 'ann', 200, 'A buyer acts for the subject of the claims.'),
  ('lastpair_seller', 'ann', 200, 'So does a seller.'),
  ('lastpair_buyer', 'bob', 403, 'A buyer acts for nobody else.'),
  ('lastpair_seller', 'bob', 403, 'Nor does a seller.'),
  ('lastpair_service', 'bob', 200, 'The service acts for anyone.')
) as v (role, subject, status, description)
cross join lateral pg_temp.call(
  'my_reservations', jsonb_build_object('p_user_id', pg_temp.user_id('ann')), v.role, pg_temp.claims_of(v.subject)) c;
select is(c.status, 403, 'Without claims a buyer acts for nobody.')
from pg_temp.call('my_reservations', jsonb_build_object('p_user_id', pg_temp.user_id('ann')), 'lastpair_buyer') c;
select is(c.status, 403, 'Also if the session has claims of its own.')
from (select set_config('request.jwt.claims', pg_temp.claims_of('ann'), true) as claims) s
cross join lateral pg_temp.call(
  'my_reservations', jsonb_build_object('p_user_id', pg_temp.user_id('ann'), 'p_limit', 1 + 0 * length(s.claims)), 'lastpair_buyer') c;
select is(current_setting('request.jwt.claims'), pg_temp.claims_of('ann'), 'The claims of the session are as they were.');
select is(pg_temp.refusal(format('select api.call(%L, null, %L, %L)', v.role, v.function, v.arguments)), v.expected, v.description)
from (values
  ('lastpair_buyer', 'audit', '{}', '42501 permission denied for function audit: ', 'A role calls only what it may.'),
  ('lastpair_buyer', 'call', '{"p_role": "lastpair_service", "p_claims": null, "p_function": "audit", "p_arguments": {}}',
    '42501 permission denied for function call: ', 'Also not by a call within a call.'),
  ('lastpair', 'audit', '{}', '22023 ''lastpair'' is not a role that a router calls for: ', 'The owner is none of the three roles.'),
  (null, 'audit', '{}', '22023 NULL is not a role that a router calls for: ', 'Nor is none.'),
  ('lastpair_service', 'nothing', '{}', '42883 there is no function api.nothing with the arguments (): ', 'There must be such a function.'),
  ('lastpair_service', 'uuid_v7', '{}', '42883 there is no function api.uuid_v7 with the arguments (): ', 'It is one of the schema api.'),
  ('lastpair_service', 'errors(); drop table x; --', '{}',
    '42883 there is no function api."errors(); drop table x; --" with the arguments (): ', 'Its name is a name.'),
  ('lastpair_service', 'get_drop', '{}', '42883 there is no function api.get_drop with the arguments (): ', 'What it requires must be there.'),
  ('lastpair_service', 'get_drop', '{"p_drop_id": null, "p_colour": 1}',
    '42883 there is no function api.get_drop with the arguments (p_drop_id, p_colour): ', 'It must have these arguments.')
) as v (role, function, arguments, expected, description);

-- A session of a pool serves others next, in the same transaction too.

create function pg_temp.settings() returns text language sql stable as $$
  select concat_ws(' ', current_user, current_setting('role'), current_setting('request.jwt.claims'))
$$;
select set_config('request.jwt.claims', 'mine', true);
create temp table before on commit drop as select pg_temp.settings() as settings;
do $$ begin perform pg_temp.call('node'); end $$;
select is(pg_temp.settings(), (select settings from before), 'After a call, role and claims are what they were.');
do $$ begin perform pg_temp.call('get_drop', '{"p_drop_id": null}', 'lastpair_buyer', '{"sub": "x"}'); end $$;
select is(pg_temp.settings(), (select settings from before), 'Also after a refusal,');
do $$ begin perform pg_temp.refusal('select api.call(''lastpair_buyer'', ''{}'', ''audit'', ''{}'')'); end $$;
select is(pg_temp.settings(), (select settings from before), 'and after an error.');
do $$
begin
  perform set_config('role', 'lastpair_service', true);
  perform api.call('lastpair_buyer', '{}', 'errors', '{}');
  perform set_config('pgtap.role', current_setting('role'), true);
  perform set_config('role', 'none', true);
end
$$;
select is(current_setting('pgtap.role'), 'lastpair_service', 'A session that works as the service still does.');

select * from finish();
rollback;
