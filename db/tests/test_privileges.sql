-- Who may do what: lastpair_api calls the public functions and touches nothing else.
begin;
select plan(1);
select ok(true);
select * from finish();
rollback;
