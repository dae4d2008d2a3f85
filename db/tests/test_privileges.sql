-- Who may do what: lastpair_api calls the public functions and touches nothing else, so a bug in the app cannot touch a table.
begin;
select plan(77);

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
select c.oid, c.relkind, (select a.attname from pg_attribute a where a.attrelid = c.oid and a.attnum = 1) as first_column
from pg_class c
where c.relnamespace in ('inventory'::regnamespace, 'api'::regnamespace) and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S');

create temp table touch on commit drop as
select r.oid::regclass as relation, s.sql
from relation r
cross join lateral (values
  (format('select count(*) from %s', r.oid::regclass)),
  (format('select from %s for update', r.oid::regclass)),
  (format('insert into %s default values', r.oid::regclass)),
  (format('update %s set %I = default', r.oid::regclass, r.first_column)),
  (format('delete from %s', r.oid::regclass)),
  (format('truncate %s cascade', r.oid::regclass)),
  (format('lock table %s in access share mode', r.oid::regclass))
) as s (sql)
where r.relkind <> 'S'
union all
select r.oid::regclass, s.sql
from relation r
cross join lateral (values
  (format('select nextval(%L)', r.oid::regclass)),
  (format('select setval(%L, 1)', r.oid::regclass)),
  (format('select last_value from %s', r.oid::regclass))
) as s (sql)
where r.relkind = 'S';

-- The role.

select is_empty(
  $$
    select from pg_roles
    where rolname = 'lastpair_api'
      and (rolcanlogin or rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls)
  $$,
  'lastpair_api cannot log in and has no power over the server.'
);
select has_role('lastpair_api', 'There is a role for the app.');
select is_empty(
  $$select from pg_auth_members where member = 'lastpair_api'::regrole$$, 'lastpair_api is a member of no other role.'
);
select is_empty(
  $$select from pg_shdepend where refclassid = 'pg_authid'::regclass and refobjid = 'lastpair_api'::regrole and deptype = 'o'$$,
  'lastpair_api owns nothing.'
);

-- What it was granted, by the catalog.

select bag_eq(
  $$
    select n.nspname::text, a.privilege_type
    from pg_namespace n
    cross join lateral aclexplode(n.nspacl) a
    where a.grantee = 'lastpair_api'::regrole
  $$,
  $$values ('api', 'USAGE')$$,
  'lastpair_api was granted USAGE on api and on no other schema.'
);
select schema_privs_are('api', 'lastpair_api', array['USAGE'], 'lastpair_api may look into api, and make nothing in it.');
select schema_privs_are('inventory', 'lastpair_api', array[]::text[], 'lastpair_api may not look into inventory.');
select is_empty(
  $$
    select n.nspname, a.privilege_type
    from pg_namespace n
    cross join lateral aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
    where n.nspname in ('inventory', 'api') and a.grantee = 0
  $$,
  'PUBLIC has nothing on the two schemas.'
);
select isnt_empty($$select from pg_proc where pronamespace = 'api'::regnamespace$$, 'There are public functions.');
select is_empty(
  $$
    select p.oid::regprocedure from pg_proc p
    where p.pronamespace = 'api'::regnamespace and not has_function_privilege('lastpair_api', p.oid, 'execute')
  $$,
  'lastpair_api may call every public function.'
);
select is_empty(
  $$
    select p.oid::regprocedure from pg_proc p
    where p.pronamespace = 'inventory'::regnamespace and has_function_privilege('lastpair_api', p.oid, 'execute')
  $$,
  'lastpair_api may call no private function.'
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
select ok(
  (
    select array_agg(r.oid) @> array[
      'inventory.users'::regclass::oid, 'inventory.drops'::regclass::oid, 'inventory.reservations'::regclass::oid,
      'inventory.purchases'::regclass::oid, 'inventory.function_files'::regclass::oid, 'inventory.events'::regclass::oid,
      'inventory.changes'::regclass::oid, 'inventory.events_id_seq'::regclass::oid]
    from relation r
  ),
  'The tables are among the relations that are tried here.'
);
select is_empty(
  $$
    select r.oid::regclass, privilege
    from relation r
    cross join unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']) as privilege
    where r.relkind <> 'S' and has_table_privilege('lastpair_api', r.oid, privilege)
  $$,
  'lastpair_api was granted nothing on any table.'
);
select is_empty(
  $$
    select r.oid::regclass, privilege
    from relation r
    cross join unnest(array['select', 'insert', 'update', 'references']) as privilege
    where r.relkind <> 'S' and has_any_column_privilege('lastpair_api', r.oid, privilege)
  $$,
  'lastpair_api was granted nothing on any column.'
);
select is_empty(
  $$
    select r.oid::regclass, privilege
    from relation r
    cross join unnest(array['usage', 'select', 'update']) as privilege
    where r.relkind = 'S' and has_sequence_privilege('lastpair_api', r.oid, privilege)
  $$,
  'lastpair_api was granted nothing on any sequence.'
);

-- What it can do, really tried.

select is(pg_temp.as_api('select current_user'), 'lastpair_api', 'What follows is tried as lastpair_api.');
select throws_ok(format('select pg_temp.as_api(%L)', format(a.sql, t.name)), '42501', null,
  format('lastpair_api cannot %s %s.', a.verb, t.name))
from unnest(array['users', 'drops', 'reservations', 'purchases', 'events', 'changes']) as t (name)
cross join (values
  ('read', 'select count(*) from inventory.%s'),
  ('insert into', 'insert into inventory.%s default values'),
  ('update', 'update inventory.%s set id = id'),
  ('delete from', 'delete from inventory.%s'),
  ('truncate', 'truncate inventory.%s cascade')
) as a (verb, sql);
select is_empty(
  $$select relation, sql, pg_temp.sqlstate_as_api(sql) from touch where pg_temp.sqlstate_as_api(sql) <> '42501'$$,
  'lastpair_api cannot touch any relation in any way.'
);
select throws_ok(
  $$select pg_temp.as_api('select inventory.expire_on_drop(null, null)')$$, '42501', null,
  'lastpair_api cannot call a private function.'
);
select throws_ok(
  $$select pg_temp.as_api('create table api.mine (id integer)')$$, '42501', null, 'lastpair_api cannot make a table in api.'
);
select throws_ok(
  $$select pg_temp.as_api('create or replace function api.errors() returns integer language sql as ''select 1''')$$,
  '42501', null,
  'lastpair_api cannot replace a public function.'
);
select throws_ok(
  $$select pg_temp.as_api('create table inventory.mine (id integer)')$$, '42501', null,
  'lastpair_api cannot make a table in inventory.'
);

-- The schema is one wall, the privileges on what is in it another: with the first one open, the second one stands.
grant usage on schema inventory to lastpair_api;
select is_empty(
  $$select relation, sql, pg_temp.sqlstate_as_api(sql) from touch where pg_temp.sqlstate_as_api(sql) <> '42501'$$,
  'Even with a way into the schema, lastpair_api cannot touch any relation in any way.'
);
select is_empty(
  $$
    select p.oid::regprocedure
    from pg_proc p
    cross join lateral (
      select format(
        'select %s(%s)', p.oid::regproc,
        (select string_agg(
            format('%s null::%s', case when p.provariadic <> 0 and a.k = p.pronargs then 'variadic' end,
              format_type(a.type, null)),
            ', ' order by a.k)
          from unnest(p.proargtypes) with ordinality as a (type, k))
      ) as sql
    ) call
    where p.pronamespace = 'inventory'::regnamespace and p.prokind = 'f' and p.prorettype <> 'trigger'::regtype
      and pg_temp.sqlstate_as_api(call.sql) <> '42501'
  $$,
  'Even with a way into the schema, lastpair_api cannot call a private function.'
);
revoke usage on schema inventory from lastpair_api;

-- A whole sale needs nothing but the public functions.
create temp table step (n integer primary key, answer text) on commit drop;
do $$
declare
  v_user_id uuid := pg_temp.as_api($sql$select id from api.create_user('privileges ' || gen_random_uuid())$sql$);
  v_drop_id uuid := pg_temp.as_api(format(
    'select id from api.create_drop(%L, 10, 3, %L, now())', 'privileges', v_user_id));
  v_reservation_id uuid;
  v_purchase_id uuid;
begin
  v_reservation_id := pg_temp.as_api(format('select id from api.reserve(%L, %L)', v_drop_id, v_user_id));
  v_purchase_id := pg_temp.as_api(format('select id from api.purchase(%L, %L)', v_drop_id, v_user_id));
  insert into step values
    (1, pg_temp.as_api(format('select name from api.list_drops() where id = %L', v_drop_id))),
    (2, pg_temp.as_api(format('select available_stock from api.get_drop(%L)', v_drop_id))),
    (3, pg_temp.as_api(format('select status from api.my_purchases(%L)', v_user_id))),
    (4, pg_temp.as_api(format('select status from api.refund_purchase(%L)', v_purchase_id))),
    (5, pg_temp.as_api(format(
      'select status from api.reserve_batch(array[row(%L, %L, null)]::api.reserve_request[])', v_drop_id, v_user_id))),
    (6, pg_temp.as_api(format('select status from api.my_reservations(%L)', v_user_id))),
    (7, pg_temp.as_api(format(
      'select status from api.purchase_batch(array[row(%L, %L, null)]::api.purchase_request[])', v_drop_id, v_user_id)));
  v_reservation_id := pg_temp.as_api(format('select id from api.reserve(%L, %L)', v_drop_id, v_user_id));
  insert into step values
    (8, pg_temp.as_api(format('select status from api.cancel_reservation(%L, %L)', v_reservation_id, v_user_id))),
    (9, pg_temp.as_api(format(
      'select status from api.cancel_batch(array[row(%L, %L)]::api.cancel_request[])', v_reservation_id, v_user_id))),
    (10, pg_temp.as_api(format('select status from api.update_drop(%L, ''{"status": "cancelled"}'')', v_drop_id))),
    (11, pg_temp.as_api(format('select username <> '''' from api.ensure_user(%L)', v_user_id))),
    (12, pg_temp.as_api('select count(*) >= 0 from api.expire_reservations(1)')),
    (13, pg_temp.as_api('select count(*) >= 0 from api.advance_drops()')),
    (14, pg_temp.as_api('select count(*) >= 0 from api.audit()')),
    (15, pg_temp.as_api('select count(*) > 0 from api.errors()')),
    (16, pg_temp.as_api('select type from api.snapshot()')),
    (17, pg_temp.as_api('select type from api.events_after(9223372036854775807)')),
    (18, pg_temp.as_api('select api.prune_events(3600) >= 0')),
    (19, pg_temp.as_api(format('select status from api.ensure_user_batch(array[row(%L, null)]::api.user_request[])', v_user_id)));
end
$$;
select is((select s.answer from step s where s.n = v.n), v.expected, format('lastpair_api can call api.%s.', v.function))
from (values
  (1, 'privileges', 'list_drops'),
  (2, '2', 'get_drop'),
  (3, 'paid', 'my_purchases'),
  (4, 'refunded', 'refund_purchase'),
  (5, '201', 'reserve_batch'),
  (6, 'ACTIVE', 'my_reservations'),
  (7, '201', 'purchase_batch'),
  (8, 'CANCELLED', 'cancel_reservation'),
  (9, '409', 'cancel_batch'),
  (10, 'cancelled', 'update_drop'),
  (11, 'true', 'ensure_user'),
  (12, 'true', 'expire_reservations'),
  (13, 'true', 'advance_drops'),
  (14, 'true', 'audit'),
  (15, 'true', 'errors'),
  (16, 'SNAPSHOT', 'snapshot'),
  (17, 'RESYNC_REQUIRED', 'events_after'),
  (18, 'true', 'prune_events'),
  (19, '200', 'ensure_user_batch')
) as v (n, expected, function)
order by v.n;

-- Functions that run with the owner's rights.

select is_empty(
  $$select p.oid::regprocedure from pg_proc p where p.pronamespace = 'api'::regnamespace and not p.prosecdef$$,
  'Every public function runs with the owner''s rights.'
);
select is_empty(
  $$
    select p.oid::regprocedure from pg_proc p
    where p.pronamespace = 'inventory'::regnamespace and p.prosecdef and p.prorettype <> 'trigger'::regtype
  $$,
  'No private function does that anybody could call.'
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
