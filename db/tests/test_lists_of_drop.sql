-- api.list_purchases and api.list_reservations show a seller who bought and who holds, the newest first, in pages.
begin;
select plan(23);

select pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan', 'eve');
select pg_temp.make_drops('shoes', 'other');
select pg_temp.buy('shoes', 'ann', 'bob', 'cat');
select pg_temp.hold('shoes', 'dan', 'eve', 'ann');
select pg_temp.buy('other', 'ann');
select pg_temp.let_run_out('shoes', 'eve');
do $$
begin
  perform api.cancel_reservation(pg_temp.hold_id('shoes', 'ann'), pg_temp.user_id('ann'));
  perform api.refund_purchase(pg_temp.purchase_id('shoes', 'bob'));
end
$$;
-- Rows of one transaction have one time, so they are given their own; those of cat and dan keep the same.
update inventory.purchases set created_at = now() - interval '1 minute' where id = pg_temp.purchase_id('shoes', 'bob');
update inventory.reservations set created_at = now() - interval '1 minute' where id = pg_temp.hold_id('shoes', 'eve');

-- A list as "bob refunded", in its order.
create function pg_temp.bought(variadic p_arguments text[]) returns text[] language plpgsql as $$
declare
  v_rows text[];
begin
  execute format(
    'select array_agg(substr(l.username, 7) || '' '' || l.status) from api.list_purchases(%s) l',
    array_to_string(array['pg_temp.drop_id(''shoes'')'] || p_arguments, ', ')) into v_rows;
  return v_rows;
end
$$;
create function pg_temp.held(variadic p_arguments text[]) returns text[] language plpgsql as $$
declare
  v_rows text[];
begin
  execute format(
    'select array_agg(substr(l.username, 7) || '' '' || l.status) from api.list_reservations(%s) l',
    array_to_string(array['pg_temp.drop_id(''shoes'')'] || p_arguments, ', ')) into v_rows;
  return v_rows;
end
$$;

select bag_eq(
  'select unnest(pg_temp.bought(''null''))', array['ann paid', 'bob refunded', 'cat paid'],
  'Every purchase of the drop is listed, and no other''s.'
);
select is((pg_temp.bought('null'))[3], 'bob refunded', 'The oldest purchase comes last.');
select is(pg_temp.bought('''refunded'''), array['bob refunded'], 'Purchases are narrowed by status.');
select is(
  pg_temp.bought('null', 'null', quote_literal(pg_temp.user_id('cat'))), array['cat paid'], 'Purchases are narrowed by buyer.'
);
select is(pg_temp.bought('null', quote_literal(pg_temp.user_id('cat'))), null, 'Purchases are narrowed by variant.');
select is(
  pg_temp.bought('p_limit => 1') || pg_temp.bought('p_limit => 5', format('p_after => %L',
    (select l.id from api.list_purchases(pg_temp.drop_id('shoes'), p_limit => 1) l))),
  pg_temp.bought('null'), 'A page goes on after a row.'
);
select is(
  pg_temp.bought('''paid''', format('p_after => %L', pg_temp.purchase_id('shoes', 'bob'))), null,
  'A row that is not among those asked for is a place in the list all the same.'
);
select results_eq(
  $$select id, status, amount, refunded_amount, refunded_at from api.list_purchases(pg_temp.drop_id('shoes'), 'refunded')$$,
  $$
    select id, status, amount, amount, now() from inventory.purchases
    where id = pg_temp.purchase_id('shoes', 'bob')
  $$,
  'A refund has its amount and time.'
);

select bag_eq(
  'select unnest(pg_temp.held(''null''))',
  array['ann CONSUMED', 'ann CANCELLED', 'bob CONSUMED', 'cat CONSUMED', 'dan ACTIVE', 'eve EXPIRED'],
  'Every reservation of the drop is listed, and one that is due has expired.'
);
select is((pg_temp.held('null'))[6], 'eve EXPIRED', 'The oldest reservation comes last.');
select is(pg_temp.held(quote_literal(v.status)), v.expected, format('Reservations are narrowed by %s.', v.status))
from (values ('ACTIVE', array['dan ACTIVE']), ('EXPIRED', array['eve EXPIRED']), ('CANCELLED', array['ann CANCELLED'])) as v (
  status, expected);
select bag_eq(
  format('select unnest(pg_temp.held(''null'', ''null'', %L))', quote_literal(pg_temp.user_id('ann'))),
  array['ann CONSUMED', 'ann CANCELLED'], 'Reservations are narrowed by user.'
);
select is(
  pg_temp.held('p_limit => 4') || pg_temp.held('p_limit => 4', format('p_after => %L',
    (select l.id from api.list_reservations(pg_temp.drop_id('shoes'), p_limit => 4) l offset 3))),
  pg_temp.held('null'), 'A page of reservations goes on after a row.'
);

select is(
  pg_temp.refusal(format('select api.%s(%L)', v.list, gen_random_uuid())), pg_temp.error('DROP_NOT_FOUND'),
  format('api.%s refuses a drop that does not exist.', v.list)
)
from (values ('list_purchases'), ('list_reservations')) as v (list);
select is(
  pg_temp.refusal(format('select api.list_purchases(pg_temp.drop_id(''shoes''), %s)', v.arguments)),
  pg_temp.error('VALIDATION_ERROR', v.sentence), v.description
)
from (values
  ('''sold''', 'status: must be pending, paid, failed, cancelled or refunded', 'A status that no purchase has is refused.'),
  ('p_limit => 0', 'limit: must be between 1 and 1000', 'An empty page is refused.'),
  ('p_limit => null', 'limit: must be between 1 and 1000', 'So is a list without an end.'),
  ('p_limit => 1001', 'limit: must be between 1 and 1000', 'So is a page that is too large.'),
  (format('p_after => %L', pg_temp.purchase_id('other', 'ann')), 'cursor: is not of this list; begin again without one',
    'A row of another drop is no place in this list.')
) as v (arguments, sentence, description);

select pg_temp.make_sizes('sizes');
do $$ begin perform api.reserve(pg_temp.drop_id('sizes'), pg_temp.user_id('ann'), null, 60, pg_temp.variant_id('sizes', 'M')); end $$;
do $$ begin perform api.purchase(pg_temp.drop_id('sizes'), pg_temp.user_id('ann')); end $$;
select results_eq(
  $$
    select variant_name from api.list_purchases(pg_temp.drop_id('sizes'))
    union all
    select variant_name from api.list_reservations(pg_temp.drop_id('sizes'))
  $$,
  array['M', 'M'], 'Both lists say the name of the variant.'
);

select * from finish();
rollback;
