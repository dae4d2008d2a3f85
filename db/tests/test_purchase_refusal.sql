-- inventory.purchase_refusal is the rule of who may not buy: the whole truth table. A column that is null stands for both values,
-- or for every status of a hold.
begin;
select plan(4);

create temp table rule (
  n integer, is_consumed boolean, leads boolean, repeats_leader boolean, repeats_earlier boolean, earlier_differs boolean,
  hold_status text, has_several boolean, names_reservation boolean, user_exists boolean, drop_status text, expected text
) on commit drop;
insert into rule values
  (1, true, true, null, null, null, null, null, null, null, null, null),
  (2, true, false, true, null, null, null, null, null, null, null, null),
  (3, true, false, false, null, null, null, null, null, null, null, 'NO_ACTIVE_RESERVATION'),
  (4, false, null, null, true, true, null, null, null, null, null, 'IDEMPOTENCY_KEY_REUSED'),
  (5, false, null, null, true, false, null, null, null, null, null, null),
  (6, false, null, null, false, false, null, null, null, false, null, 'AUTH_REQUIRED'),
  (7, false, null, null, false, false, null, null, null, true, 'none', 'DROP_NOT_FOUND'),
  (8, false, null, null, false, false, null, true, null, true, 'live', 'SEVERAL_RESERVATIONS'),
  (9, false, null, null, false, false, null, true, null, true, 'cancelled', 'SEVERAL_RESERVATIONS'),
  (10, false, null, null, false, false, 'EXPIRED', false, null, true, 'live', 'RESERVATION_EXPIRED'),
  (11, false, null, null, false, false, 'EXPIRED', false, null, true, 'cancelled', 'RESERVATION_EXPIRED'),
  (12, false, null, null, false, false, 'CONSUMED', false, null, true, 'live', 'NO_ACTIVE_RESERVATION'),
  (13, false, null, null, false, false, 'CANCELLED', false, null, true, 'live', 'NO_ACTIVE_RESERVATION'),
  (14, false, null, null, false, false, 'CONSUMED', false, null, true, 'cancelled', 'DROP_NOT_ACTIVE'),
  (15, false, null, null, false, false, 'CANCELLED', false, null, true, 'cancelled', 'DROP_NOT_ACTIVE'),
  (16, false, null, null, false, false, 'none', false, null, true, 'cancelled', 'DROP_NOT_ACTIVE'),
  (17, false, null, null, false, false, 'none', false, true, true, 'live', 'RESERVATION_NOT_FOUND'),
  (18, false, null, null, false, false, 'none', false, false, true, 'live', 'NO_ACTIVE_RESERVATION');

-- Every combination; only a purchase that was made before can be of another reservation.
create temp table situation on commit drop as
select consumed, leads, repeats, earlier, differs, status, several, names, user_exists, drop_status,
  inventory.purchase_refusal(
    consumed, leads, repeats, earlier, differs, nullif(status, 'none'), several, names, user_exists,
    nullif(drop_status, 'none')) as code
from unnest(array[true, false]) consumed
cross join unnest(array[true, false]) leads
cross join unnest(array[true, false]) repeats
cross join unnest(array[true, false]) earlier
cross join unnest(array[true, false]) differs
cross join unnest(array['none', 'EXPIRED', 'CONSUMED', 'CANCELLED']) status
cross join unnest(array[true, false]) several
cross join unnest(array[true, false]) names
cross join unnest(array[true, false]) user_exists
cross join unnest(array['none', 'live', 'cancelled']) drop_status
where earlier or not differs;

create temp table judged on commit drop as
select s.*, r.n, r.expected
from situation s
left join rule r
  on s.consumed = r.is_consumed and s.leads = coalesce(r.leads, s.leads) and s.repeats = coalesce(r.repeats_leader, s.repeats)
  and s.earlier = coalesce(r.repeats_earlier, s.earlier) and s.differs = coalesce(r.earlier_differs, s.differs)
  and s.status = coalesce(r.hold_status, s.status) and s.several = coalesce(r.has_several, s.several)
  and s.names = coalesce(r.names_reservation, s.names) and s.user_exists = coalesce(r.user_exists, s.user_exists)
  and s.drop_status = coalesce(r.drop_status, s.drop_status);

select is_empty('select * from judged where n is null', 'Every situation has a rule.');
select is((select count(*) from judged), (select count(*) from situation), 'No situation has two rules.');
select is((select count(distinct n) from judged), (select count(*) from rule), 'Every rule is tried.');
select is_empty('select * from judged where code is distinct from expected', 'Each is answered by its rule.');

select * from finish();
rollback;
