-- inventory.may_become is the state machine of drops: every pair of statuses, legal or not.
begin;
select plan(3);

create temp table legal (from_status text, to_status text) on commit drop;
insert into legal values
  ('draft', 'scheduled'), ('draft', 'live'), ('draft', 'cancelled'),
  ('scheduled', 'draft'), ('scheduled', 'live'), ('scheduled', 'ended'), ('scheduled', 'cancelled'),
  ('live', 'ended'), ('live', 'cancelled');

create temp table pair on commit drop as
select f.status as from_status, t.status as to_status
from unnest(array['draft', 'scheduled', 'live', 'ended', 'cancelled']) as f (status)
cross join unnest(array['draft', 'scheduled', 'live', 'ended', 'cancelled']) as t (status);

select set_eq(
  $$select from_status, to_status from pair where from_status <> to_status and inventory.may_become(from_status, to_status)$$,
  $$select from_status, to_status from legal$$,
  'Of twenty changes of status nine are legal.'
);
select is(
  (select every(inventory.may_become(from_status, to_status)) from pair where from_status = to_status), true,
  'A status may always stay.'
);
select is_empty(
  $$select to_status from pair where from_status in ('ended', 'cancelled') and from_status <> to_status
    and inventory.may_become(from_status, to_status) is not false$$,
  'ended and cancelled are final.'
);

select * from finish();
rollback;
