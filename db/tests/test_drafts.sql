-- Drafts are the seller's: a buyer finds none, and the log, which is public, has nothing of them.
begin;
select plan(24);

select pg_temp.make_users('seller', 'ann');
create temp table drafts on commit drop as
select id from api.create_drop('secret', 1, 5, pg_temp.user_id('seller'));
grant select on drafts to public;

select is((select name from api.get_drop((select id from drafts))), 'secret', 'The owner finds it.');
select is(
  pg_temp.refusal($$select api.get_drop((select id from drafts), false)$$), pg_temp.error('DROP_NOT_FOUND'),
  'For the public, the service does not.'
);
select is_empty($$select from api.snapshot(array(select id from drafts)) s, json_array_elements(s.data -> 'drops')$$,
  'A SNAPSHOT that names it does not hold it.');
select is_empty(
  $$select from api.snapshot() s, json_array_elements(s.data -> 'drops') d where (d ->> 'id')::uuid in (select id from drafts)$$,
  'Nor does one of all drops.'
);

-- Whether a role finds it.
create function pg_temp.finds(p_role text) returns boolean language plpgsql as $$
begin
  execute format('set local role %I', p_role);
  perform from api.get_drop((select id from drafts));
  reset role;
  return true;
exception when others then
  return false;
end
$$;
select is(pg_temp.finds('lastpair_buyer'), false, 'A buyer does not.');
select is(pg_temp.finds('lastpair_seller'), true, 'A seller does.');
select is(pg_temp.finds('lastpair_service'), true, 'The service does.');
set local role lastpair_buyer;
prepare drafts_of_a_buyer as select * from api.list_drops('draft');
select throws_ok('drafts_of_a_buyer', 'PT403', 'FORBIDDEN', 'Nor does a buyer list drafts.');
reset role;
set local role lastpair_seller;
select isnt_empty($$select from api.list_drops('draft') where id in (select id from drafts)$$, 'A seller does.');
reset role;

-- What a statement announces of the draft.
create function pg_temp.heard(p_sql text) returns text language plpgsql as $$
declare
  v_last bigint := (select coalesce(max(id), 0) from inventory.events);
begin
  execute p_sql;
  set constraints all immediate;
  set constraints all deferred;
  return (
    select string_agg(e.type || coalesce(' ' || (e.data #>> '{drop,name}'), ''), ', ' order by e.id)
    from inventory.events e
    where e.id > v_last);
end
$$;
create function pg_temp.heard_of(p_changes jsonb) returns text language sql as $$
  select pg_temp.heard(format('select api.update_drop((select id from drafts), %L)', p_changes))
$$;
select is(pg_temp.heard($$select api.create_drop('other', 1, 5, pg_temp.user_id('seller'))$$), null, 'A new draft is not announced.');
select is(pg_temp.heard_of('{"price": 3, "total_stock": 7}'), null, 'Nor is a change of it.');
select is(
  pg_temp.heard_of('{"status": "scheduled", "starts_at": "2999-01-01T00:00:00Z", "total_stock": 8}'),
  'DROP_CREATED secret, STOCK_UPDATED', 'One that is published is announced as created.'
);
select is(pg_temp.heard_of('{"name": "open"}'), 'DROP_UPDATED open', 'Then a change is one.');
select is(pg_temp.heard_of('{"status": "draft", "name": "hidden"}'), 'DROP_REMOVED', 'Back to draft: it is removed, and says no more.');
select is(
  pg_temp.heard($$
    do $do$ begin
      perform api.update_drop((select id from drafts), '{"status": "live"}');
      perform api.update_drop((select id from drafts), '{"name": "twice"}');
    end $do$
  $$),
  'DROP_CREATED twice', 'Published and changed in one transaction: created, as it is at the end.'
);
select is(pg_temp.heard($$delete from inventory.drops where id = (select id from drafts)$$), 'DROP_REMOVED', 'A deletion is announced.');
select is(
  pg_temp.heard($$delete from inventory.drops where name = 'other' and created_by = pg_temp.user_id('seller')$$), null,
  'The deletion of a draft is not.'
);

-- Cancelled.

insert into drafts select id from api.create_drop('never shown', 1, 5, pg_temp.user_id('seller'));
delete from drafts where id not in (select d.id from inventory.drops d);
select is(pg_temp.heard_of('{"status": "cancelled"}'), null, 'A draft that is cancelled is not announced.');
select is(pg_temp.heard_of('{"name": "not now either"}'), null, 'Nor what becomes of it later.');
select is(pg_temp.finds('lastpair_buyer'), false, 'A buyer does not find it.');
select is(pg_temp.finds('lastpair_seller'), true, 'A seller does.');
select is_empty(
  $$select from api.list_drops('cancelled', 200) where id in (select id from drafts)
    union all
    select from api.snapshot(array(select id from drafts)) s, json_array_elements(s.data -> 'drops')$$,
  'It is neither on a list nor in a SNAPSHOT.'
);
select pg_temp.make_drop('seen', 5);
do $$ begin perform api.update_drop(pg_temp.drop_id('seen'), '{"status": "cancelled"}'); end $$;
select isnt_empty($$select from api.list_drops('cancelled', 200) where id = pg_temp.drop_id('seen')$$, 'A drop that was on sale is.');
select is((select name from api.get_drop(pg_temp.drop_id('seen'), false)), 'seen', 'And everybody finds it.');

select * from finish();
rollback;
