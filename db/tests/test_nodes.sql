-- Each node has a number, which every id that it makes carries. The number is set before the database has drops.
begin;
select plan(27);

-- Those of other tests are away until the end of this one.
truncate inventory.drops, inventory.variants, inventory.reservations, inventory.purchases;

-- What other sessions have planned is the same as what this one has: each statement here runs once with every number.
create temp table made (n integer, id uuid not null default inventory.uuid_v7()) on commit drop;
prepare by_default (integer) as insert into made (n) values ($1);
create function pg_temp.in_a_function() returns uuid language plpgsql as $$
declare
  v_id uuid := inventory.uuid_v7();
begin
  return v_id;
end
$$;
create function pg_temp.make_ids(p_n integer) returns void language plpgsql as $$
begin
  for i in 1 .. 7 loop -- after five calls PostgreSQL keeps a generic plan
    insert into made (n) values (p_n);
    insert into made select p_n, pg_temp.in_a_function();
    insert into made select p_n, id from unnest(inventory.new_ids(3)) as id;
    insert into made select p_n, id from unnest(inventory.new_ids(1)) as id;
    execute format('execute by_default(%s)', p_n);
  end loop;
end
$$;

select is(inventory.node(), 0, 'A database is node 0 until its number is set.');
select is(api.node(), 0, 'api.node tells the number.');
do $$ begin perform pg_temp.make_ids(0); end $$;
do $$ begin perform inventory.set_node(171); end $$;
select is(inventory.node(), 171, 'The owner sets the number.');
select is(api.node(), 171, 'api.node tells the new one.');
do $$ begin perform pg_temp.make_ids(171); end $$;
do $$ begin perform inventory.set_node(5); perform pg_temp.make_ids(5); perform inventory.set_node(255); end $$;
do $$ begin perform pg_temp.make_ids(255); end $$;

select is((select count(distinct id) from made), 4 * 7 * 7::bigint, 'No two ids are the same.');
select is_empty(
  'select n, id from made where inventory.node_of(id) is distinct from n',
  'Every id has the number: of a default, in a function, one of many, and of a plan that was made before the number was set.'
);
select is_empty(
  $$select n, id from made where substr(id::text, 22, 2) <> lpad(to_hex(n), 2, '0')$$,
  'It is byte 9, the two digits before the last hyphen.'
);
select is_empty(
  $$select id from made where id::text !~ '^.{14}7.{4}[89ab]'$$, 'The version is 7, and the variant is that of RFC 9562.'
);
select is(inventory.node_of(null), null, 'An id that is not there has no number.');
select is(inventory.node_of('01a202a2-e18f-7d92-8fac-e3384b7a3441'), 172, 'The number of an id is byte 9.');

select is(
  pg_temp.refusal(format('select inventory.set_node(%s)', v.number)), '22023 the number of a node is from 0 to 255: ', v.description)
from (values ('-1', '-1 is no number of a node.'), ('256', 'Nor is 256.'), ('null', 'Nor is null.')) as v (number, description);

-- All ids of a sale, also of one whose tables have defaults.
do $$
begin
  perform inventory.set_node(7);
  perform api.set_payment_provider('stripe', 600);
  perform pg_temp.make_users('seller', 'ann', 'bob', 'cat');
  perform pg_temp.make_drop('shoes');
  perform pg_temp.make_sizes('shirt');
  perform pg_temp.buy('shoes', 'ann', 'bob');
  perform api.reserve_basket(
    pg_temp.user_id('cat'),
    array[row(pg_temp.drop_id('shoes'), null, 1), row(pg_temp.drop_id('shirt'), pg_temp.variant_id('shirt', 'S'), 1)]::api.basket_item[]);
end
$$;
select results_eq(
  format('select distinct inventory.node_of(r.id) from inventory.%I r %s', v.name, v.condition), array[7],
  format('Every id in %s has the number.', v.name))
from (values
  ('drops', ''), ('variants', ''),
  ('reservations', 'where r.drop_id in (select d.id from inventory.drops d)'),
  ('baskets', 'where r.user_id = pg_temp.user_id(''cat'')'),
  ('purchases', 'where r.drop_id in (select d.id from inventory.drops d)'),
  ('payments', 'where r.drop_id in (select d.id from inventory.drops d)'),
  ('provider_calls', 'where r.drop_id in (select d.id from inventory.drops d)')
) as v (name, condition);

select is(
  pg_temp.refusal('select inventory.set_node(8)'),
  '55000 this database is node 7 and has drops, so its number stays: The ids of its drops, holds and purchases carry this number,'
  ' and a router finds them by it.',
  'A database that has drops keeps its number.'
);
select is(inventory.node(), 7, 'It is still there.');
select lives_ok('select inventory.set_node(7)', 'The number that it has may be set again.');
select is(
  (select array_agg(r.name) from unnest(array['lastpair_api', 'lastpair_buyer', 'lastpair_seller', 'lastpair_service']) as r (name)
    where has_function_privilege(r.name, 'inventory.node()', 'execute')
      or has_function_privilege(r.name, 'inventory.set_node(integer)', 'execute')),
  null, 'No role sets it, also after it was set.'
);
select is(obj_description('inventory.node()'::regprocedure), 'The number of this node. inventory.set_node sets it.', 'Its comment stays.');
select is((select p.proowner from pg_proc p where p.oid = 'inventory.node()'::regprocedure), (select oid from pg_roles where rolname = current_user), 'Nor does its owner change.');
select is(
  (select array_agg(a.number) from (select current_setting('role') as number) a), array['none'], 'Nothing is left of it in the session.');

select * from finish();
rollback;
