-- api.audit finds every invariant that is violated and says nothing of a healthy database: all other proofs end by asking it.
begin;
select plan(26);

-- Constraints and a unique index rule some of the damage out; this test does without them.
alter table inventory.drops drop constraint drops_available_stock_check;
drop index inventory.reservations_active_key;
drop trigger reservations_user_check on inventory.reservations;

-- What the audit finds after a change of a drop's rows, of all users or of these: "drop: invariant: expected, found". The change
-- is undone.
create function pg_temp.findings_after(p_table text, p_change text, p_drop text, p_users text[])
returns text[] language plpgsql as $$
declare
  v_findings text[];
begin
  execute format(
    'update inventory.%I set %s where %I = %L and (%L::uuid[] is null or %I = any (%5$L))', p_table, p_change,
    case p_table when 'drops' then 'id' else 'drop_id' end, pg_temp.drop_id(p_drop),
    case when p_users is not null then pg_temp.user_ids(variadic p_users) end,
    case p_table when 'drops' then 'created_by' when 'variants' then 'drop_id' else 'user_id' end);
  v_findings := array(
    select concat_ws(': ', f.drop_name, f.invariant, f.expected || ', ' || f.found) from pg_temp.findings() f
    order by f.invariant, f.expected
  );
  raise sqlstate 'UNDO0';
exception when sqlstate 'UNDO0' then
  return v_findings;
end
$$;

-- A drop of ten units: two held, three sold (one of them pending), one refunded, one cancelled, one expired; so five are left.
do $$
begin
  perform pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan', 'eve', 'fay', 'gus', 'hal');
  perform pg_temp.make_drops('shoes', 'tickets');
  perform pg_temp.hold('shoes', 'ann', 'bob', 'gus', 'hal');
  perform pg_temp.buy('shoes', 'cat', 'dan', 'eve', 'fay');
  update inventory.purchases set status = 'pending' where id = pg_temp.purchase_id('shoes', 'eve');
  perform api.refund_purchase(pg_temp.purchase_id('shoes', 'fay'));
  perform api.cancel_reservation(pg_temp.hold_id('shoes', 'gus'), pg_temp.user_id('gus'));
  perform pg_temp.let_run_out('shoes', 'hal');
  perform api.expire_reservations(1000000);
  perform pg_temp.make_sizes('shirts');
  perform pg_temp.reserving('shirts', 'ann', 2, 'M');
  perform pg_temp.reserving('shirts', 'bob', 1, 'M');
  perform api.purchase(pg_temp.drop_id('shirts'), pg_temp.user_id('bob'));
end
$$;

select is(pg_temp.stock_of('shoes'), 5, 'The drop has been through all that can happen.');
select is_empty('select * from pg_temp.findings()', 'A healthy drop has no findings.');

select is(pg_temp.findings_after(v.relation, v.change, v.drop_name, v.user_names), v.expected, v.description)
from (values
  -- Conservation: every unit is available, held or sold.
  ('drops', 'available_stock = 6', 'shoes', null, array['shoes: total_stock = available_stock + held + sold: 10, 11'],
    'A unit that is counted twice is found.'),
  ('drops', 'available_stock = 4', 'shoes', null, array['shoes: total_stock = available_stock + held + sold: 10, 9'],
    'A unit that is lost is found.'),
  ('drops', 'total_stock = 12', 'shoes', null, array['shoes: total_stock = available_stock + held + sold: 12, 10'],
    'A total that moved alone is found.'),
  ('reservations', 'status = ''EXPIRED''', 'shoes', array['ann', 'bob'],
    array['shoes: total_stock = available_stock + held + sold: 10, 8'],
    'Holds that ended without giving their units back are found.'),
  ('purchases', 'status = ''failed''', 'shoes', array['eve'], array['shoes: total_stock = available_stock + held + sold: 10, 9'],
    'A pending purchase counts as sold: one that ended without giving its unit back is found.'),
  ('purchases', 'status = ''paid'', refunded_qty = 0', 'shoes', array['fay'], array['shoes: total_stock = available_stock + held + sold: 10, 11'],
    'A refunded purchase does not count as sold: one that is paid again is found.'),
  ('purchases', 'qty = 3', 'shoes', array['cat'],
    array['shoes: a purchase has the variant, units, price and amount of its reservation: 0, 1',
      'shoes: total_stock = available_stock + held + sold: 10, 12'],
    'A purchase counts as many units as it is of.'),
  -- Stock between zero and the total.
  ('drops', 'available_stock = -1', 'tickets', null,
    array['tickets: available_stock is between 0 and total_stock: 10, -1',
      'tickets: total_stock = available_stock + held + sold: 10, -1'],
    'Stock below zero is found.'),
  ('drops', 'available_stock = 11', 'tickets', null,
    array['tickets: available_stock is between 0 and total_stock: 10, 11',
      'tickets: total_stock = available_stock + held + sold: 10, 11'],
    'More stock than there is in total is found.'),
  -- One hold a user.
  ('reservations', 'user_id = pg_temp.user_id(''ann'')', 'shoes', array['bob'],
    array['shoes: a user has at most one ACTIVE reservation of a variant: 1, 2'], 'A user who has two holds is found.'),
  ('reservations', 'user_id = pg_temp.user_id(''nobody'')', 'shoes', array['bob'],
    array['shoes: the user of a reservation exists: 0, 1'], 'A hold of nobody is found.'),
  -- Reservations and purchases go together.
  ('reservations', 'status = ''CONSUMED''', 'shoes', array['gus'],
    array['shoes: a CONSUMED reservation has one purchase, by its user: 1, 0'],
    'A CONSUMED reservation without a purchase is found.'),
  ('purchases', 'user_id = pg_temp.user_id(''gus'')', 'shoes', array['cat'],
    array['shoes: a CONSUMED reservation has one purchase, by its user: 1, 0'],
    'A purchase by another user than the one who reserved is found.'),
  ('reservations', 'status = ''CANCELLED''', 'shoes', array['cat', 'fay'],
    array['shoes: a purchase comes from a CONSUMED reservation: 0, 2'],
    'Purchases from reservations that are not CONSUMED are found, and counted.'),
  -- Variants.
  ('variants', 'total_stock = total_stock + 1', 'shirts', null,
    array['shirts: total_stock of a drop = the sum of its variants: 7, 9',
      'shirts: total_stock of a variant = available_stock + held + sold: 3, 2',
      'shirts: total_stock of a variant = available_stock + held + sold: 6, 5'],
    'Variants of more units than their drop, and than were held, sold and left, are found.'),
  ('variants', 'available_stock = available_stock - 1', 'shirts', null,
    array['shirts: available_stock of a drop = the sum of its variants: 4, 2',
      'shirts: total_stock of a variant = available_stock + held + sold: 2, 1',
      'shirts: total_stock of a variant = available_stock + held + sold: 5, 4'],
    'So are variants that lost units.'),
  ('reservations', 'variant_id = pg_temp.variant_id(''shirts'', ''S'')', 'shirts', array['ann'],
    array['shirts: total_stock of a variant = available_stock + held + sold: 2, 4',
      'shirts: total_stock of a variant = available_stock + held + sold: 5, 3'],
    'A hold of another variant than the one whose units it took is found.'),
  -- The facts of a sale.
  ('purchases', 'amount = 1', 'shirts', array['bob'],
    array['shirts: a purchase has the variant, units, price and amount of its reservation: 0, 1'],
    'An amount that is not the price of the units is found.'),
  ('purchases', 'unit_price = 1, amount = 1', 'shirts', array['bob'],
    array['shirts: a purchase has the variant, units, price and amount of its reservation: 0, 1'],
    'So is a price that is not that of the hold,'),
  ('purchases', 'currency = ''EUR''', 'shirts', array['bob'],
    array['shirts: a purchase has the variant, units, price and amount of its reservation: 0, 1'], 'and another currency.'),
  ('reservations', 'unit_price = null, currency = null', 'shirts', array['bob'], '{}'::text[],
    'A hold that is older than the facts has none to compare with.'),
  -- The search for due holds.
  ('drops', 'nothing_due_before = now() + interval ''1 hour''', 'shirts', null,
    array['shirts: no ACTIVE reservation ends before nothing_due_before of its drop: 0, 1'],
    'A hold that the search for due holds would not find is found.'),
  -- A cancelled drop.
  ('drops', 'status = ''cancelled''', 'shoes', null, array['shoes: a cancelled drop holds nothing: 0, 2'],
    'Holds on a cancelled drop are found.')
) as v (relation, change, drop_name, user_names, expected, description);

select is_empty('select * from pg_temp.findings()', 'With the damage undone the drop is healthy.');

select * from finish();
rollback;
