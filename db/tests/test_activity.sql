-- What api.activity tells: the latest events with their times, the stock of drops by time, and the position to go on from.
begin;
select plan(1);
select is((select position from api.activity()), (select coalesce(max(id), 0)::text from inventory.events), 'x');
select * from finish();
rollback;
