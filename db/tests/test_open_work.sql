-- api.open_work counts what a node that leaves its router would leave behind.
begin;
select plan(5);

create function pg_temp.open_work(p_what text) returns bigint
language sql
as $$ select w.number from api.open_work() w where w.what like p_what || '%' $$;

-- Those of other tests are away until the end of this one.
truncate inventory.drops, inventory.variants, inventory.reservations, inventory.purchases;

select is(pg_temp.open_work('drops'), 0::bigint, 'Without drops none is left.');
do $$
begin
  perform pg_temp.make_users('seller', 'ann');
  perform pg_temp.make_drop('live', 10);
  perform pg_temp.make_drop('to start', 10, '1 hour', null, 'scheduled');
  perform pg_temp.make_drop('draft', 10, null, null, 'draft');
  perform pg_temp.make_drop('over', 10, '-1 hour', '0', 'live');
  perform pg_temp.make_drop('ended', 10, '-1 hour', '1 hour', 'ended');
  perform pg_temp.make_drop('cancelled', 10, '-1 hour', '1 hour', 'cancelled');
end
$$;
select is(pg_temp.open_work('drops'), 3::bigint, 'Drops that may still be sold count, drafts as well; those that are over by the clock do not.');
do $$ begin perform pg_temp.hold('live', 'ann'); end $$;
select is(pg_temp.open_work('units'), 1::bigint, 'A hold counts.');
update inventory.drops set status = 'ended' where name = 'live';
select is(pg_temp.open_work('units'), 1::bigint, 'It counts when its drop has ended, too.');
update inventory.reservations set expires_at = now() where status = 'ACTIVE';
select is(pg_temp.open_work('units'), 0::bigint, 'One that is due does not.');

select * from finish();
rollback;
