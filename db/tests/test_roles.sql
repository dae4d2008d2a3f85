-- A buyer, a seller and the service may each execute certain functions, and touch nothing else. A buyer and a seller act for the
-- subject of the session's claims only.
begin;
select plan(28);

-- The roles, by the catalog.

create temp table role on commit drop as
select rolname::text as name, oid from pg_roles where rolname in ('lastpair_buyer', 'lastpair_seller', 'lastpair_service');

select is((select count(*) from role), 3::bigint, 'There are three roles.');
select is_empty(
  $$
    select rolname from pg_roles join role using (oid)
    where rolcanlogin or rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls
  $$,
  'None can log in or has power over the server.'
);
select is_empty(
  $$select member::regrole from pg_auth_members where member in (select oid from role)$$, 'None is a member of a role.'
);
select bag_eq(
  $$
    select n.nspname::text, r.name, a.privilege_type
    from pg_namespace n
    cross join lateral aclexplode(n.nspacl) a
    join role r on r.oid = a.grantee
  $$,
  $$values ('api', 'lastpair_buyer', 'USAGE'), ('api', 'lastpair_seller', 'USAGE'), ('api', 'lastpair_service', 'USAGE')$$,
  'Each may use the schema api and no other.'
);
select is_empty(
  $$
    select objid::regclass from pg_shdepend
    where refclassid = 'pg_authid'::regclass and refobjid in (select oid from role) and classid = 'pg_class'::regclass
      and dbid = (select oid from pg_database where datname = current_database())
  $$,
  'None owns a relation or has a right on one.'
);

-- Every public function, and who may execute it.

select is_empty(
  $$
    select p.oid::regprocedure as "public function without a line in db/functions/privileges.sql"
    from pg_proc p
    where p.pronamespace = 'api'::regnamespace and not has_function_privilege('lastpair_service', p.oid, 'execute')
  $$,
  'The service may execute every public function; privileges.sql has a line for each.'
);
select bag_eq(
  $$
    select r.name, p.oid::regprocedure::text
    from pg_proc p
    cross join role r
    where p.pronamespace in ('api'::regnamespace, 'inventory'::regnamespace) and r.name <> 'lastpair_service'
      and has_function_privilege(r.oid, p.oid, 'execute')
  $$,
  $$
    select r.name, f.signature
    from (values
      ('lastpair_buyer lastpair_seller', 'api.ensure_user(uuid,text)'),
      ('lastpair_buyer lastpair_seller', 'api.currencies()'),
      ('lastpair_buyer lastpair_seller', 'api.errors()'),
      ('lastpair_buyer lastpair_seller', 'api.activity(integer,uuid[])'),
      ('lastpair_buyer lastpair_seller', 'api.create_stream_ticket(uuid)'),
      ('lastpair_buyer lastpair_seller', 'api.events_after(bigint,integer,uuid[])'),
      ('lastpair_buyer lastpair_seller', 'api.events_after(bigint,integer,uuid[],uuid)'),
      ('lastpair_buyer lastpair_seller', 'api.forget_user(uuid)'),
      ('lastpair_buyer lastpair_seller', 'api.get_drop(uuid,boolean)'),
      ('lastpair_buyer lastpair_seller', 'api.get_purchase(uuid,uuid)'),
      ('lastpair_buyer lastpair_seller', 'api.get_reservation(uuid,uuid)'),
      ('lastpair_buyer lastpair_seller', 'api.help()'),
      ('lastpair_buyer lastpair_seller', 'api.reservation_history(uuid,uuid)'),
      ('lastpair_buyer lastpair_seller', 'api.list_drops(text,integer,uuid,timestamp with time zone)'),
      ('lastpair_buyer lastpair_seller', 'api.my_purchases(uuid,integer,uuid,timestamp with time zone)'),
      ('lastpair_buyer lastpair_seller', 'api.my_reservations(uuid,integer,uuid,timestamp with time zone)'),
      ('lastpair_buyer lastpair_seller', 'api.snapshot(uuid[])'),
      ('lastpair_buyer', 'api.cancel_basket(uuid,uuid)'),
      ('lastpair_buyer', 'api.cancel_payment(uuid,uuid)'),
      ('lastpair_buyer', 'api.get_payment(uuid,uuid)'),
      ('lastpair_buyer', 'api.cancel_reservation(uuid,uuid)'),
      ('lastpair_buyer', 'api.purchase(uuid,uuid,text,uuid)'),
      ('lastpair_buyer', 'api.reserve(uuid,uuid,text,integer,uuid,integer)'),
      ('lastpair_buyer', 'api.extend_reservation(uuid,uuid,text)'),
      ('lastpair_buyer', 'api.get_basket(uuid,uuid)'),
      ('lastpair_buyer', 'api.purchase_basket(uuid,uuid,text)'),
      ('lastpair_buyer', 'api.reserve_basket(uuid,api.basket_item[],text,integer)'),
      ('lastpair_seller',
        'api.create_drop(text,numeric,integer,uuid,timestamp with time zone,timestamp with time zone,text,jsonb,jsonb,text)'),
      ('lastpair_seller', 'api.create_drop_from_json(jsonb,uuid,text)'),
      ('lastpair_seller', 'api.drop_money(uuid)'),
      ('lastpair_seller', 'api.history(uuid,integer,bigint)'),
      ('lastpair_seller', 'api.list_payment_problems(integer,bigint,timestamp with time zone)'),
      ('lastpair_seller', 'api.list_payments(uuid,text[],integer,uuid,timestamp with time zone)'),
      ('lastpair_seller', 'api.list_provider_calls(uuid,integer,uuid,timestamp with time zone)'),
      ('lastpair_seller', 'api.retry_provider_call(uuid)'),
      ('lastpair_seller', 'api.list_purchases(uuid,text,uuid,uuid,integer,uuid)'),
      ('lastpair_seller', 'api.list_reservations(uuid,text,uuid,uuid,integer,uuid)'),
      ('lastpair_seller', 'api.refund_drop(uuid,integer,uuid)'),
      ('lastpair_seller', 'api.cancel_drop(uuid,boolean,uuid,text)'),
      ('lastpair_seller', 'api.refund_purchase(uuid,uuid,text,integer)'),
      ('lastpair_seller', 'api.update_drop(uuid,jsonb,integer,uuid)'),
      ('lastpair_seller', 'api.create_webhook_endpoint(text,text[],uuid,text)'),
      ('lastpair_seller', 'api.delete_webhook_endpoint(uuid)'),
      ('lastpair_seller', 'api.get_webhook_endpoint(uuid)'),
      ('lastpair_seller', 'api.list_webhook_deliveries(uuid,text,text,uuid,integer,uuid,timestamp with time zone)'),
      ('lastpair_seller', 'api.list_webhook_endpoints(integer,uuid,timestamp with time zone)'),
      ('lastpair_seller', 'api.replay_webhook_delivery(uuid,uuid,text)'),
      ('lastpair_seller', 'api.rotate_webhook_secret(uuid,uuid,text)'),
      ('lastpair_seller', 'api.send_test_webhook(uuid,uuid,text)'),
      ('lastpair_seller', 'api.update_webhook_endpoint(uuid,jsonb)')
    ) as f (roles, signature)
    cross join lateral string_to_table(f.roles, ' ') as r (name)
  $$,
  'A buyer and a seller may execute these functions and no other.'
);
select is_empty(
  $$
    select p.oid::regprocedure from pg_proc p
    where p.pronamespace = 'inventory'::regnamespace and has_function_privilege('lastpair_service', p.oid, 'execute')
  $$,
  'The service may execute no private function.'
);
select is_empty(
  $$
    select p.oid::regprocedure as "takes a user and does not call require_self"
    from pg_proc p
    where p.pronamespace = 'api'::regnamespace
      and (p.proargnames && array['p_user_id', 'p_created_by'])
      and exists (select from role r where r.name <> 'lastpair_service' and has_function_privilege(r.oid, p.oid, 'execute'))
      and p.proname <> 'create_drop_from_json' -- it does nothing but call create_drop
      and regexp_replace(p.prosrc, '--[^\n]*', '', 'g') !~ '^\s*(declare[^;]+;(\s+\w[^;]+;)*\s+)?begin\s+perform inventory\.require_self\('
  $$,
  'Each of these functions that takes a user begins with the check that the user is the caller.'
);

-- A public function that is made without a line belongs to nobody but its owner.

create function api.try_out() returns integer language sql security definer as 'select 1';
revoke all on function api.try_out() from public; -- the deployment does this
select is(
  (select count(*) from unnest(array['lastpair_api', 'lastpair_buyer', 'lastpair_seller', 'lastpair_service']) as r (name)
    where has_function_privilege(r.name, 'api.try_out()', 'execute')),
  0::bigint, 'Without a line in privileges.sql, no role may execute a new function.'
);

-- Acting for oneself. A session of PostgREST sets the role and the claims for a transaction.

do $$ begin perform pg_temp.make_users('seller', 'ann', 'bob'); perform pg_temp.make_drop('shoes'); end $$;

-- What a call raises for ann, as this role and with these claims; null if nothing.
create function pg_temp.refused(p_role text, p_claims text, p_call text default 'api.my_purchases(%L)') returns text language plpgsql as $$
declare
  v_answer text;
begin
  perform set_config('request.jwt.claims', p_claims, true);
  perform set_config('pgtap.call', format('select ' || p_call, pg_temp.user_id('ann')), true);
  perform set_config('role', p_role, true);
  begin
    execute current_setting('pgtap.call');
  exception when others then
    v_answer := sqlstate || ' ' || sqlerrm;
  end;
  perform set_config('role', 'none', true);
  return v_answer;
end
$$;

select is(pg_temp.refused(v.role, replace(v.claims, 'ANN', pg_temp.user_id('ann')::text)), v.expected, v.description)
from (values
  ('lastpair_buyer', '{"sub": "ANN"}', null, 'A buyer acts for the subject of the claims.'),
  ('lastpair_seller', '{"sub": "ANN", "role": "lastpair_seller"}', null, 'So does a seller.'),
  ('lastpair_buyer', '{"sub": "01a202a2-e18f-7d92-8fac-e3384b7a3441"}', 'PT403 FORBIDDEN', 'A buyer does not act for another.'),
  ('lastpair_seller', '{"sub": "01a202a2-e18f-7d92-8fac-e3384b7a3441"}', 'PT403 FORBIDDEN', 'Nor does a seller.'),
  ('lastpair_buyer', '', 'PT403 FORBIDDEN', 'Without claims a buyer acts for nobody.'),
  ('lastpair_buyer', '{"role": "lastpair_buyer"}', 'PT403 FORBIDDEN', 'Nor without a subject.'),
  ('lastpair_buyer', '{"sub": null}', 'PT403 FORBIDDEN', 'Nor with null for one.'),
  ('lastpair_buyer', '{"sub": ["ANN"]}', 'PT403 FORBIDDEN', 'Nor with a list of subjects.'),
  ('lastpair_buyer', '["ANN"]', 'PT403 FORBIDDEN', 'Nor with claims that are no object.'),
  ('lastpair_buyer', '{"sub": "auth0|123"}', 'PT403 FORBIDDEN', 'A subject that is no UUID is no user.'),
  ('lastpair_service', '', null, 'The service acts for anyone.'),
  ('lastpair_api', '', null, 'So does lastpair_api.')
) as v (role, claims, expected, description);

select is(
  pg_temp.refused(
    'lastpair_buyer', format('{"sub": "%s"}', pg_temp.user_id('ann')),
    format('api.reserve_basket(%%L, array[row(%L, null, 1)]::api.basket_item[], null, 86400)', pg_temp.drop_id('shoes'))),
  'PT403 FORBIDDEN', 'Nor how long those of a basket last.');
select is(
  pg_temp.refused(
    v.role, format('{"sub": "%s"}', pg_temp.user_id('ann')),
    format('api.reserve(%L, %%L, null, %s)', pg_temp.drop_id('shoes'), v.ttl_seconds)),
  v.expected, v.description)
from (values
  ('lastpair_buyer', 86400, 'PT403 FORBIDDEN', 'A buyer does not choose how long a hold lasts.'),
  ('lastpair_buyer', 60, null, 'But holds a unit.'),
  ('lastpair_service', 600, 'PT409 ALREADY_RESERVED', 'The service chooses.')
) as v (role, ttl_seconds, expected, description);
-- create_drop_from_json leaves the check to the function that it calls.
create function pg_temp.creating(p_creator text) returns text language plpgsql as $$
declare
  v_call text := format(
    'select api.create_drop_from_json(''{"name": "x", "price": 1, "total_stock": 1}'', %L)', pg_temp.user_id(p_creator));
  v_answer text := 'created';
begin
  perform set_config('request.jwt.claims', json_build_object('sub', pg_temp.user_id('seller'))::text, true);
  perform set_config('role', 'lastpair_seller', true);
  begin
    execute v_call;
  exception when others then
    v_answer := sqlstate || ' ' || sqlerrm;
  end;
  perform set_config('role', 'none', true);
  return v_answer;
end
$$;
select is(pg_temp.creating(v.creator), v.expected, v.description)
from (values
  ('seller', 'created', 'A seller makes a drop from JSON.'), ('ann', 'PT403 FORBIDDEN', 'Not one of another seller.')
) as v (creator, expected, description);

select * from finish();
rollback;
