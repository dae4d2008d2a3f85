-- The names of purchasers as everybody sees them: by PURCHASER_NAMES, and never a whole e-mail address.
begin;
select plan(21);

select is(inventory.public_name(v.name, v.names), v.shown, format('%s, %s', v.name, v.names))
from (values
  ('Ann Lee', 'full', 'Ann Lee'), ('ann@example.com', 'full', 'a…'), ('ann@localhost', 'full', 'a…'),
  ('Ann <ann@example.com>', 'full', 'A…'), ('ann＠example.com', 'full', 'a…'), ('ann@example.com-1a2b3c4d', 'full', 'a…'),
  ('@ann', 'full', '@ann'), ('ann @ home', 'full', 'a…'), ('ann at home', 'full', 'ann at home'),
  ('Ann Lee', 'initials', 'A. L.'), ('  ann   lee ', 'initials', 'A. L.'), ('ann', 'initials', 'A.'),
  ('ann@example.com', 'initials', 'A.'), ('élodie de la Tour', 'initials', 'É. D. L.'),
  ('Ann Lee', 'hidden', 'Somebody'), ('ann@example.com', 'hidden', 'Somebody')
) as v (name, names, shown);

select pg_temp.make_users('seller', 'ann');
select pg_temp.make_drop('shoes', 5);
select is(
  pg_temp.refusal(format('select api.set_purchaser_names(%L)', v.names)),
  pg_temp.error('VALIDATION_ERROR', 'p_names: must be full, initials or hidden'), 'There are three ways.'
)
from unnest(array['none', null]) as v (names);
do $$ begin perform api.set_purchaser_names('initials'); end $$;
select pg_temp.buy('shoes', 'ann');
set constraints all immediate;
select is(
  (select e.data ->> 'username' from inventory.events e where e.drop_id = pg_temp.drop_id('shoes') and e.type = 'PURCHASE_COMPLETED'),
  'P. A.', 'The event of a sale has the short name.'
);
select is(
  (select e.data #>> '{latestPurchasers,0,username}' from inventory.events e
    where e.drop_id = pg_temp.drop_id('shoes') and e.type = 'ACTIVITY_UPDATED'),
  'P. A.', 'So has the event of the latest purchasers.'
);
select is(
  (select activity_feed #>> '{latest_purchasers,0,username}' from api.list_drops(p_limit => 1000) where id = pg_temp.drop_id('shoes')),
  'P. A.', 'And the list.'
);

select * from finish();
rollback;
