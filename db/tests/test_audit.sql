-- api.audit finds every invariant that is violated and says nothing of a healthy database: all other proofs end by asking it.
begin;
select plan(18);

-- Some damage is what a constraint rules out: for this test it does not.
alter table inventory.drops drop constraint drops_available_stock_check;
drop index inventory.reservations_active_key;

-- What the audit finds of the drops here.
create function pg_temp.findings()
returns table (drop_name text, invariant text, expected bigint, found bigint) language sql stable as $$
  select d.name, a.invariant, a.expected, a.found
  from api.audit() a
  join inventory.drops d on d.id = a.drop_id
  where d.created_by = pg_temp.user_id('seller')
$$;

-- What the audit would find after this damage, which is then undone.
create function pg_temp.findings_after(p_damage text)
returns table (drop_name text, invariant text, expected bigint, found bigint) language plpgsql as $$
declare
  v_findings json;
begin
  begin
    execute p_damage;
    v_findings := (select json_agg(f) from pg_temp.findings() f);
    raise sqlstate 'UNDO0';
  exception when sqlstate 'UNDO0' then
    return query
    select * from json_to_recordset(v_findings) as f (drop_name text, invariant text, expected bigint, found bigint);
  end;
end
$$;

-- A drop of ten units: two held, three sold (one of them pending), one refunded, one cancelled, one expired; so five are left.
do $$
begin
  perform api.ensure_user(pg_temp.user_id(name))
  from unnest(array['seller', 'ann', 'bob', 'cat', 'dan', 'eve', 'fay', 'gus', 'hal']) as name;
  perform api.create_drop(name, 10, 10, pg_temp.user_id('seller'), now() - interval '1 hour')
  from unnest(array['shoes', 'tickets']) as name;
  perform api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id(name))
  from unnest(array['ann', 'bob', 'cat', 'dan', 'eve', 'fay', 'gus', 'hal']) as name;
  perform api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id(name)) from unnest(array['cat', 'dan', 'eve', 'fay']) as name;
  update inventory.purchases set status = 'pending' where drop_id = pg_temp.drop_id('shoes') and user_id = pg_temp.user_id('eve');
  perform api.refund_purchase(id) from api.my_purchases(pg_temp.user_id('fay'));
  perform api.cancel_reservation(id, user_id) from api.my_reservations(pg_temp.user_id('gus'));
  update inventory.reservations set expires_at = now()
  where drop_id = pg_temp.drop_id('shoes') and user_id = pg_temp.user_id('hal');
  perform api.expire_reservations(1000000);
end
$$;

select is(
  (select available_stock from inventory.drops where id = pg_temp.drop_id('shoes')), 5,
  'The drop has been through all that can happen.'
);
select is_empty($$select * from pg_temp.findings()$$, 'A healthy drop has no findings.');
select is(
  (select proargnames from pg_proc where oid = 'api.audit()'::regprocedure), array['drop_id', 'invariant', 'expected', 'found'],
  'A finding names the drop, the invariant, what was expected and what was found.'
);

-- Conservation: every unit is available, held or sold.

select results_eq(
  format('select * from pg_temp.findings_after(%L)', v.damage),
  format('values (''shoes'', ''total_stock = available_stock + held + sold'', %s::bigint, %s::bigint)', v.expected, v.found),
  v.description
)
from (values
  ('update inventory.drops set available_stock = 6 where id = pg_temp.drop_id(''shoes'')', 10, 11,
    'A unit that is counted twice is found.'),
  ('update inventory.drops set available_stock = 4 where id = pg_temp.drop_id(''shoes'')', 10, 9,
    'A unit that is lost is found.'),
  ('update inventory.drops set total_stock = 12 where id = pg_temp.drop_id(''shoes'')', 12, 10,
    'A total that moved alone is found.'),
  ('update inventory.reservations set status = ''EXPIRED'' where drop_id = pg_temp.drop_id(''shoes'') and status = ''ACTIVE''',
    10, 8,
    'Holds that ended without giving their units back are found.'),
  ('update inventory.purchases set status = ''refunded'' where drop_id = pg_temp.drop_id(''shoes'') and status = ''pending''',
    10, 9,
    'A pending purchase counts as sold: one that ended without giving its unit back is found.'),
  ('update inventory.purchases set status = ''paid'' where drop_id = pg_temp.drop_id(''shoes'') and status = ''refunded''',
    10, 11,
    'A refunded purchase does not count as sold: one that is paid again is found.'),
  ('update inventory.purchases set qty = 3 where drop_id = pg_temp.drop_id(''shoes'') and user_id = pg_temp.user_id(''cat'')',
    10, 12,
    'A purchase counts as many units as it is of.')
) as v (damage, expected, found, description);

-- Stock between zero and the total.

select bag_eq(
  $$
    select *
    from pg_temp.findings_after('update inventory.drops set available_stock = -1 where id = pg_temp.drop_id(''tickets'')')
  $$,
  $$
    values
      ('tickets', 'total_stock = available_stock + held + sold', 10::bigint, -1::bigint),
      ('tickets', 'available_stock is between 0 and total_stock', 10, -1)
  $$,
  'Stock below zero is found.'
);
select bag_eq(
  $$
    select *
    from pg_temp.findings_after('update inventory.drops set available_stock = 11 where id = pg_temp.drop_id(''tickets'')')
  $$,
  $$
    values
      ('tickets', 'total_stock = available_stock + held + sold', 10::bigint, 11::bigint),
      ('tickets', 'available_stock is between 0 and total_stock', 10, 11)
  $$,
  'More stock than there is in total is found.'
);

-- One hold a user.

select results_eq(
  $$
    select * from pg_temp.findings_after(
      'update inventory.reservations set user_id = pg_temp.user_id(''ann'')
       where drop_id = pg_temp.drop_id(''shoes'') and user_id = pg_temp.user_id(''bob'')')
  $$,
  $$values ('shoes', 'a user holds at most one unit of a drop', 1::bigint, 2::bigint)$$,
  'A user who holds two units is found.'
);

-- Reservations and purchases go together.

select results_eq(
  $$
    select * from pg_temp.findings_after(
      'update inventory.reservations set status = ''CONSUMED''
       where drop_id = pg_temp.drop_id(''shoes'') and user_id = pg_temp.user_id(''gus'')')
  $$,
  $$values ('shoes', 'a CONSUMED reservation has one purchase, by its user', 1::bigint, 0::bigint)$$,
  'A CONSUMED reservation without a purchase is found.'
);
select results_eq(
  $$
    select * from pg_temp.findings_after(
      'update inventory.purchases set user_id = pg_temp.user_id(''gus'')
       where drop_id = pg_temp.drop_id(''shoes'') and user_id = pg_temp.user_id(''cat'')')
  $$,
  $$values ('shoes', 'a CONSUMED reservation has one purchase, by its user', 1::bigint, 0::bigint)$$,
  'A purchase by somebody else than who reserved is found.'
);
select results_eq(
  $$
    select * from pg_temp.findings_after(
      'update inventory.reservations set status = ''CANCELLED''
       where drop_id = pg_temp.drop_id(''shoes'') and user_id in (pg_temp.user_id(''cat''), pg_temp.user_id(''fay''))')
  $$,
  $$values ('shoes', 'a purchase comes from a CONSUMED reservation', 0::bigint, 2::bigint)$$,
  'Purchases from reservations that are not CONSUMED are found, and counted.'
);

-- A cancelled drop.

select results_eq(
  $$
    select *
    from pg_temp.findings_after('update inventory.drops set status = ''cancelled'' where id = pg_temp.drop_id(''shoes'')')
  $$,
  $$values ('shoes', 'a cancelled drop holds nothing', 0::bigint, 2::bigint)$$,
  'Holds on a cancelled drop are found.'
);

select is_empty($$select * from pg_temp.findings()$$, 'With the damage undone the drop is healthy.');

select * from finish();
rollback;
