-- inventory.may_pay_become: every change of a payment's status, legal or not.
begin;
select plan(25);

select is(
  inventory.may_pay_become(f.status, t.status),
  f.status || ' ' || t.status = any (array[
    'pending paid', 'pending failed', 'pending cancelled', 'pending refunded',
    'failed paid', 'failed cancelled', 'failed refunded',
    'cancelled paid', 'cancelled refunded',
    'paid refunded']),
  f.status || ' to ' || t.status
)
from unnest(array['pending', 'paid', 'failed', 'cancelled', 'refunded']) as f (status)
cross join unnest(array['pending', 'paid', 'failed', 'cancelled', 'refunded']) as t (status);

select * from finish();
rollback;
