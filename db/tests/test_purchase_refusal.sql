-- inventory.purchase_refusal is the rule of who may not buy: the whole truth table. A column that is null stands for both values,
-- or for every status of a hold.
begin;
select plan(4);

create temp table rule (
  n integer, is_consumed boolean, leads boolean, repeats_leader boolean, repeats_earlier boolean, has_hold boolean,
  hold_status text, user_exists boolean, drop_exists boolean, expected text
) on commit drop;
insert into rule values
  (1, true, true, null, null, null, null, null, null, null),
  (2, true, false, true, null, null, null, null, null, null),
  (3, true, false, false, null, null, null, null, null, 'NO_ACTIVE_RESERVATION'),
  (4, false, null, null, true, null, null, null, null, null),
  (5, false, true, null, false, null, 'EXPIRED', null, null, 'RESERVATION_EXPIRED'),
  (6, false, false, null, false, true, 'EXPIRED', null, null, 'NO_ACTIVE_RESERVATION'),
  (7, false, null, null, false, true, 'CONSUMED', null, null, 'NO_ACTIVE_RESERVATION'),
  (8, false, null, null, false, true, 'CANCELLED', null, null, 'NO_ACTIVE_RESERVATION'),
  (9, false, null, null, false, true, 'none', null, null, 'NO_ACTIVE_RESERVATION'),
  (10, false, null, null, false, false, 'none', false, null, 'AUTH_REQUIRED'),
  (11, false, null, null, false, false, 'none', true, false, 'DROP_NOT_FOUND'),
  (12, false, null, null, false, false, 'none', true, true, 'NO_ACTIVE_RESERVATION');

-- Every combination; a hold's status is known only if there was a hold.
create temp table situation on commit drop as
select consumed, leads, repeats, earlier, has_hold, status, user_exists, drop_exists,
  inventory.purchase_refusal(
    consumed, leads, repeats, earlier, has_hold, nullif(status, 'none'), user_exists, drop_exists) as code
from unnest(array[true, false]) consumed
cross join unnest(array[true, false]) leads
cross join unnest(array[true, false]) repeats
cross join unnest(array[true, false]) earlier
cross join unnest(array[true, false]) has_hold
cross join unnest(array['none', 'EXPIRED', 'CONSUMED', 'CANCELLED']) status
cross join unnest(array[true, false]) user_exists
cross join unnest(array[true, false]) drop_exists
where status = 'none' or has_hold;

create temp table judged on commit drop as
select s.*, r.n, r.expected
from situation s
left join rule r
  on s.consumed = r.is_consumed and s.leads = coalesce(r.leads, s.leads) and s.repeats = coalesce(r.repeats_leader, s.repeats)
  and s.earlier = coalesce(r.repeats_earlier, s.earlier) and s.has_hold = coalesce(r.has_hold, s.has_hold)
  and s.status = coalesce(r.hold_status, s.status) and s.user_exists = coalesce(r.user_exists, s.user_exists)
  and s.drop_exists = coalesce(r.drop_exists, s.drop_exists);

select is_empty('select * from judged where n is null', 'Every situation has a rule.');
select is((select count(*) from judged), (select count(*) from situation), 'No situation has two rules.');
select is((select count(distinct n) from judged), (select count(*) from rule), 'Every rule is tried.');
select is_empty('select * from judged where code is distinct from expected', 'Each is answered by its rule.');

select * from finish();
rollback;
