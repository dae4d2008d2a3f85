-- What the app does as lastpair_api is announced, though that role may touch no table: at the commit the rights of the functions
-- that did the work are long gone.
begin;
select plan(7);

-- Do something as lastpair_api and commit it, as far as a test can.
create function pg_temp.committed_by_api(p_sql text) returns void language plpgsql set role = lastpair_api as $$
begin
  if current_user <> 'lastpair_api' then
    raise exception 'this is %', current_user;
  end if;
  execute p_sql;
  set constraints all immediate;
  set constraints all deferred;
end
$$;

do $$
begin
  perform pg_temp.make_users('seller', 'ann', 'bob');
  perform api.create_drop('shoes', 10, 5, pg_temp.user_id('seller'), '2020-01-01 00:00+00');
  perform set_config('pgtap.drop_id', pg_temp.drop_id('shoes')::text, true);
  perform set_config('pgtap.user_id', pg_temp.user_id('ann')::text, true);
end
$$;
set constraints all immediate;
set constraints all deferred;
create temp table log on commit drop as select max(id) as last_id from inventory.events;

set role lastpair_api;
do $$ begin perform api.reserve(current_setting('pgtap.drop_id')::uuid, current_setting('pgtap.user_id')::uuid); end $$;
set constraints all immediate;
set constraints all deferred;
reset role;
select results_eq(
  'select e.type, e.data::text from inventory.events e, log where e.id > last_id',
  format('values (''STOCK_UPDATED'', ''{"dropId":"%s","availableStock":4}'')', pg_temp.drop_id('shoes')),
  'A reserve of a session that is lastpair_api is announced.'
);
select is(
  pg_temp.announced(format(
    'select pg_temp.committed_by_api(%L)', format(v.call, pg_temp.drop_id('shoes'), pg_temp.user_id(v.name)))),
  v.expected, v.description
)
from (values
  (1, 'select api.purchase(%L, %L)', 'ann',
    array[
      'PURCHASE_COMPLETED {"dropId":"shoes","username":"pgtap ann","qty":1,"purchasedAt":"now"}',
      'ACTIVITY_UPDATED {"dropId":"shoes","latestPurchasers":[{"userId":"ann","username":"pgtap ann","qty":1,"createdAt":"now"}]}'
    ],
    'So is a purchase.'),
  (2, 'select api.reserve(%L, %L)', 'bob', array['STOCK_UPDATED {"dropId":"shoes","availableStock":3}'],
    'So is another reserve.'),
  (3, 'select api.update_drop(%L, ''{"status": "cancelled"}'')', 'ann',
    array[
      'DROP_UPDATED {"drop":{"id":"shoes","name":"shoes","price":10.00,"currency":"USD","total_stock":5,"available_stock":4,'
        '"variants":[],'
        '"starts_at":"2020-01-01T00:00:00+00:00","ends_at":null,"status":"cancelled","paused_at":null,"limit_per_user":null,'
        '"hold_seconds":null,"rehold_after_seconds":0,"extension_seconds":null,"revision":n,"created_by":"seller","createdAt":"now",'
        '"updatedAt":"now","image_url":null}}',
      'STOCK_UPDATED {"dropId":"shoes","availableStock":4}'
    ],
    'So is a change of the drop.')
) as v (n, call, name, expected, description)
order by v.n;
select is_empty('select from inventory.changes where transaction_id = pg_current_xact_id()', 'Nothing is left to be announced.');

-- The triggers run with the owner's rights, so nobody may make them say something else.
select set_eq(
  $$
    select t.tgrelid::regclass::text || ' ' || t.tgname
    from pg_trigger t
    join pg_proc p on p.oid = t.tgfoid and p.pronamespace = 'inventory'::regnamespace
    where not t.tgisinternal and t.tgenabled = 'O' and p.prosecdef
      and coalesce('search_path=pg_catalog, pg_temp' = any (p.proconfig), false)
  $$,
  array[
    'inventory.drops drops_insert_note', 'inventory.drops drops_update_note', 'inventory.drops drops_delete_keep',
    'inventory.drops drops_delete_note', 'inventory.drops drops_raise_revision', 'inventory.drops drops_stock_note',
    'inventory.users users_rename_note',
    'inventory.drop_changes drop_changes_keep',
    'inventory.variants variants_insert_note', 'inventory.variants variants_update_note',
    'inventory.variants variants_delete_note', 'inventory.reservations reservations_insert_note',
    'inventory.reservations reservations_update_note', 'inventory.reservations reservations_delete_note',
    'inventory.reservations reservations_earlier_end', 'inventory.purchases purchases_insert_note',
    'inventory.purchases purchases_update_note', 'inventory.purchases purchases_delete_note', 'inventory.changes changes_announce',
    'inventory.users users_delete_keep', 'inventory.users users_update_keep', 'inventory.users users_truncate_keep',
    'inventory.drops drops_truncate_keep', 'inventory.variants variants_truncate_keep',
    'inventory.reservations reservations_truncate_keep', 'inventory.purchases purchases_truncate_keep',
    'inventory.reservations reservations_user_check', 'inventory.reservations reservations_delete_keep',
    'inventory.reservations reservations_update_keep', 'inventory.purchases purchases_hold_check',
    'inventory.payments payments_insert_note', 'inventory.payments payments_update_note',
    'inventory.purchases purchases_earlier_end', 'inventory.payment_events payment_events_keep',
    'inventory.webhook_endpoints webhook_endpoints_note', 'inventory.payment_events payment_events_tell'
  ],
  'Every trigger runs with the owner''s rights and a pinned search_path.'
);
select is_empty(
  $$
    select t.tgname from pg_trigger t
    where t.tgrelid in (select c.oid from pg_class c where c.relnamespace = 'inventory'::regnamespace) and not t.tgisinternal
      and not (select p.prosecdef from pg_proc p where p.oid = t.tgfoid)
  $$,
  'There is no other one.'
);

select * from finish();
rollback;
