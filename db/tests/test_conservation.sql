-- A transaction that does not balance is refused at its commit: what it adds to the total is what it adds to the available, the
-- held and the sold units. So a change by hand cannot make a unit, or lose one.
begin;
select plan(47);

select pg_temp.make_users('seller', 'ann', 'bob', 'cat');
select pg_temp.make_drops('shoes', 'other');
select pg_temp.buy('shoes', 'ann');
select pg_temp.hold('shoes', 'bob');
set constraints all immediate;
set constraints all deferred;

-- What a transaction with these statements raises when it commits; what it did is undone. SHOES and so on are ids.
create function pg_temp.committed(p_sql text) returns text language plpgsql as $$
begin
  p_sql := replace(replace(replace(p_sql, 'SHOES', quote_literal(pg_temp.drop_id('shoes'))), 'OTHER',
    quote_literal(pg_temp.drop_id('other'))), 'CAT', quote_literal(pg_temp.user_id('cat')));
  execute p_sql;
  set constraints all immediate;
  set constraints all deferred;
  raise sqlstate 'UNDO0';
exception
  when sqlstate 'UNDO0' then
    return 'committed';
  when others then
    set constraints all deferred;
    return concat_ws(' ', sqlstate, replace(replace(
      sqlerrm, pg_temp.drop_id('shoes')::text, 'shoes'), pg_temp.drop_id('other')::text, 'other'));
end
$$;

select matches(pg_temp.committed(v.statements), '^23000 the stock of drop (shoes|other) does not balance$', v.description)
from (values
  ('update inventory.drops set available_stock = available_stock + 1 where id = SHOES',
    'A unit is not made available from nothing.'),
  ('update inventory.drops set available_stock = available_stock - 1 where id = SHOES', 'Nor lost.'),
  ('update inventory.drops set total_stock = total_stock + 1 where id = SHOES', 'The total does not move alone.'),
  ('update inventory.reservations set status = ''EXPIRED'' where drop_id = SHOES and status = ''ACTIVE''',
    'A hold does not end without giving its unit back.'),
  ('update inventory.reservations set qty = 2 where drop_id = SHOES and status = ''ACTIVE''', 'Nor become one of more units.'),
  ('update inventory.reservations set drop_id = OTHER where drop_id = SHOES and status = ''ACTIVE''',
    'Nor move to another drop.'),
  ('insert into inventory.reservations (drop_id, user_id, expires_at) values (SHOES, CAT, now() + interval ''1 hour'')',
    'Nor be put in without taking a unit.'),
  ('delete from inventory.reservations where drop_id = SHOES and status = ''ACTIVE''', 'Nor be deleted.'),
  ('update inventory.purchases set status = ''refunded'' where drop_id = SHOES', 'A sale is not taken back without its unit.'),
  ('update inventory.purchases set qty = 2 where drop_id = SHOES', 'Nor is it of more units afterwards.'),
  ('delete from inventory.purchases where drop_id = SHOES', 'Nor deleted.'),
  ('insert into inventory.purchases (drop_id, reservation_id, user_id, status)
    select drop_id, id, user_id, ''pending'' from inventory.reservations where drop_id = SHOES and status = ''ACTIVE''',
    'Nor put in beside the hold that it comes from.'),
  ('update inventory.drops set available_stock = available_stock + 1 where id = SHOES;
    update inventory.drops set available_stock = available_stock - 1 where id = OTHER',
    'One drop does not make good for another.')
) as v (statements, description);
select is(pg_temp.committed(v.statements), 'committed', v.description)
from (values
  ('update inventory.drops set available_stock = available_stock + 1, total_stock = total_stock + 1 where id = SHOES',
    'Units that are added to the total and the available balance.'),
  ('update inventory.drops set total_stock = total_stock + 1 where id = SHOES;
    update inventory.drops set available_stock = available_stock + 1 where id = SHOES',
    'So they do in two statements of one transaction.'),
  ('update inventory.reservations set status = ''CANCELLED'' where drop_id = SHOES and status = ''ACTIVE'';
    update inventory.drops set available_stock = available_stock + 1 where id = SHOES',
      'A hold that gives its unit back balances.'),
  ('insert into inventory.reservations (drop_id, user_id, qty, expires_at) values (SHOES, CAT, 2, now() + interval ''1 hour'');
    update inventory.drops set available_stock = available_stock - 2 where id = SHOES', 'So does one that takes its units.'),
  ('insert into inventory.purchases (drop_id, reservation_id, user_id, status)
    select drop_id, id, user_id, ''pending'' from inventory.reservations where drop_id = SHOES and status = ''ACTIVE'';
    update inventory.reservations set status = ''CONSUMED'' where drop_id = SHOES and status = ''ACTIVE''',
    'So does a hold that becomes a sale.'),
  ('update inventory.purchases set status = ''pending'' where drop_id = SHOES', 'A sale that is pending is sold all the same.'),
  ('update inventory.purchases set status = ''refunded'' where drop_id = SHOES;
    update inventory.drops set available_stock = available_stock + 1 where id = SHOES', 'A refund by hand gives its unit back.'),
  ('update inventory.drops set available_stock = available_stock + 1 where id = SHOES;
    update inventory.drops set available_stock = available_stock - 1 where id = SHOES',
      'What was taken back in time is nothing.'),
  ('delete from inventory.drops where id = OTHER', 'A drop without holds may be deleted.')
) as v (statements, description);
select matches(
  pg_temp.committed('insert into inventory.reservations (drop_id, user_id, expires_at) select gen_random_uuid(), CAT, now()'),
  '^23000 the stock of drop .* does not balance$', 'A hold of a drop that does not exist is refused.'
);
select is(
  pg_temp.committed('delete from inventory.drops where id = SHOES'), '23503 drop shoes has reservations, so it cannot be deleted',
  'A drop with holds is not deleted.'
);
select matches(
  pg_temp.committed(
    'insert into inventory.drops (name, price, total_stock, available_stock, starts_at, status, created_by)
      select ''by hand'', 1, 5, 4, now(), ''live'', CAT'),
  '^23000 the stock of drop .* does not balance$', 'A new drop has all its stock.'
);
select is(
  pg_temp.committed('update inventory.drops set id = gen_random_uuid() where id = OTHER'), '23503 drop other keeps its id',
  'A drop keeps its id, because its holds name it.'
);

select pg_temp.make_sizes('sizes');
set constraints all immediate;
set constraints all deferred;
select matches(
  pg_temp.committed(replace(v.statement, 'SIZES', quote_literal(pg_temp.drop_id('sizes')))),
  '^23000 the stock of drop .* is not that of its variants$', v.description
)
from (values
  ('update inventory.variants set available_stock = available_stock + 1, total_stock = total_stock + 1
    where drop_id = SIZES and name = ''S''', 'A variant does not get a unit alone.'),
  ('update inventory.variants set available_stock = available_stock - 1 where drop_id = SIZES and name = ''S''', 'Nor loses one.'),
  ('update inventory.drops set available_stock = available_stock + 1, total_stock = total_stock + 1 where id = SIZES',
    'Nor does a drop that has variants.'),
  ('delete from inventory.variants where drop_id = SIZES and name = ''S''', 'A variant does not go without its units.'),
  ('update inventory.drops set available_stock = available_stock - 1 where id = SIZES;
    insert into inventory.reservations (drop_id, variant_id, user_id, expires_at)
    select drop_id, id, CAT, now() from inventory.variants where drop_id = SIZES and name = ''S''',
    'A hold takes its unit from the variant, too.'),
  ('update inventory.variants set drop_id = OTHER where drop_id = SIZES and name = ''M'';
    update inventory.drops set total_stock = 5, available_stock = 5 where id = OTHER',
    'A variant does not go to another drop without its units.')
) as v (statement, description);
select is(
  pg_temp.committed(replace('update inventory.variants set drop_id = OTHER where drop_id = SIZES and name = ''M'';
    update inventory.drops set total_stock = 5, available_stock = 5 where id = OTHER;
    update inventory.drops set total_stock = total_stock - 5, available_stock = available_stock - 5 where id = SIZES',
    'SIZES', quote_literal(pg_temp.drop_id('sizes')))),
  'committed', 'With its units it does.'
);
select matches(pg_temp.committed('truncate ' || v.tables), v.answer, v.description)
from (values
  ('inventory.drops, inventory.variants', '^23503 drops have reservations', 'Drops are not emptied without their holds.'),
  ('inventory.variants', '^23000 variants cannot be emptied without the drops', 'Nor variants without their drops,'),
  ('inventory.purchases', '^23000 purchases cannot be emptied without the drops', 'nor sales,'),
  ('inventory.reservations, inventory.purchases', '^23000 (reservations|purchases) cannot be emptied without the drops',
    'nor holds.'),
  ('inventory.drops, inventory.variants, inventory.reservations, inventory.purchases', '^committed$', 'All of them may be emptied.')
) as v (tables, answer, description);
do $$
begin
  perform api.reserve(pg_temp.drop_id('sizes'), pg_temp.user_id('ann'), p_variant_id => pg_temp.variant_id('sizes', 'S'));
  perform api.reserve(pg_temp.drop_id('sizes'), pg_temp.user_id('bob'), p_variant_id => pg_temp.variant_id('sizes', 'M'));
  perform api.purchase(pg_temp.drop_id('sizes'), pg_temp.user_id('bob'));
end
$$;
set constraints all immediate;
set constraints all deferred;
select matches(
  pg_temp.committed(replace(v.statements, 'SIZES', quote_literal(pg_temp.drop_id('sizes')))),
  '^23000 the stock of variant .* does not balance$', v.description
)
from (values
  ('update inventory.variants set available_stock = available_stock + case name when ''S'' then 1 else -1 end
    where drop_id = SIZES', 'A unit of one variant is not made from one of another.'),
  ('update inventory.variants set total_stock = total_stock + case name when ''S'' then -1 else 1 end where drop_id = SIZES',
    'Nor is the total of one that of another.'),
  ('update inventory.reservations set variant_id = (select id from inventory.variants where drop_id = SIZES and name = ''M'')
    where drop_id = SIZES', 'A hold does not move to another variant without its unit.'),
  ('update inventory.purchases set variant_id = (select id from inventory.variants where drop_id = SIZES and name = ''S'')
    where drop_id = SIZES', 'Nor does a sale.'),
  ('update inventory.reservations set status = ''CANCELLED'' where drop_id = SIZES and status = ''ACTIVE'';
    update inventory.variants set available_stock = available_stock + 1 where drop_id = SIZES and name = ''M'';
    update inventory.drops set available_stock = available_stock + 1 where id = SIZES',
      'Nor does a hold that ends give its units to another variant.'),
  ('update inventory.purchases set status = ''refunded'' where drop_id = SIZES;
    update inventory.variants set available_stock = available_stock + 1 where drop_id = SIZES and name = ''S'';
    update inventory.drops set available_stock = available_stock + 1 where id = SIZES', 'Nor does a refund.')
) as v (statements, description);
select is(pg_temp.committed(replace(v.statements, 'SIZES', quote_literal(pg_temp.drop_id('sizes')))), 'committed', v.description)
from (values
  ('update inventory.variants set total_stock = total_stock + case name when ''S'' then 1 else -1 end,
      available_stock = available_stock + case name when ''S'' then 1 else -1 end
    where drop_id = SIZES', 'Units that nobody has may become those of another variant.'),
  ('update inventory.reservations set variant_id = (select id from inventory.variants where drop_id = SIZES and name = ''M'')
      where drop_id = SIZES;
    update inventory.variants set available_stock = available_stock + case name when ''S'' then 1 else -1 end
      where drop_id = SIZES', 'A hold moves to another variant together with its units.')
) as v (statements, description);
select is_empty('select * from pg_temp.findings()', 'No unit was lost or made up on the way.');

select * from finish();
rollback;
