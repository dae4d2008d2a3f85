-- api.ensure_epoch moves the ids of events far ahead when this is not the database that gave out the ids so far.
begin;
select plan(12);

create function pg_temp.position() returns bigint language sql volatile as $$ select last_value from inventory.events_id_seq $$;
create temp table start on commit drop as select pg_temp.position() as id;

select is(api.ensure_epoch(), false, 'The database that was migrated is the one that gives out ids.');
select is(api.ensure_epoch(null), false, 'Null is no sign of a loss.');
select is((select pg_temp.position() - id from start), 0::bigint, 'Then no id is drawn.');

do $$ begin update inventory.event_epochs set system_identifier = system_identifier + 1; end $$;
select is(api.ensure_epoch(), true, 'On another server a new epoch begins,');
select is(api.ensure_epoch(), false, 'once.');
do $$ begin update inventory.event_epochs set timeline = 'FFFFFFFF'; end $$;
select is(api.ensure_epoch(), true, 'On another timeline a new epoch begins.');
do $$ begin update inventory.event_epochs set database_oid = 1; end $$;
select is(api.ensure_epoch(), true, 'In another database a new epoch begins.');
select is(api.ensure_epoch(true), true, 'If the caller knows that ids are lost, a new epoch begins.');
select ok(
  pg_temp.position() between extract(epoch from now()) * 1000000 and (2::numeric ^ 53),
  'Ids go on at the microseconds since 1970, which every JSON reader can hold.'
);
select is(
  (select e.lost_after_id from inventory.event_epochs e order by e.first_id desc limit 1),
  (select coalesce(max(e.id), 0) from inventory.events e), 'The epoch knows the newest id of the log when it began,'
);
select is(
  (select max(e.first_id) from inventory.event_epochs e), pg_temp.position() + 1, 'and the first id that it may give out.'
);
do $$ begin perform setval('inventory.events_id_seq', 9007199254740000); perform api.ensure_epoch(true); end $$;
select is(pg_temp.position(), 9007199254740000, 'Ids never go back.');

do $$ begin perform setval('inventory.events_id_seq', id) from start; end $$;
select * from finish();
rollback;
