-- A router merges lists of several nodes. api.cursor_time says when a row comes in a list, and a list that is given this time comes
-- after the row without looking it up.
begin;
select plan(35);

do $$
begin
  perform api.create_webhook_endpoint('https://shop.example', array['drop.updated', 'drop.created', 'purchase.pending', 'purchase.paid']);
  perform api.set_payment_provider('stripe', 600);
  perform pg_temp.make_users('seller', 'ann', 'bob');
  perform pg_temp.make_drop('one', 10, '-3 hours');
  perform pg_temp.make_drop('two', 10, '-2 hours');
  perform pg_temp.make_drop('three', 10, '-2 hours');
  perform pg_temp.make_drop('draft', 10, '1 hour', null, 'draft');
  perform pg_temp.make_drop('draft without start', 10, null, null, 'draft');
  perform pg_temp.make_drop('another without start', 10, null, null, 'draft');
  perform pg_temp.buy('one', 'ann', 'bob');
  perform pg_temp.buy('two', 'ann');
  perform pg_temp.buy('three', 'ann');
  -- All have one time, that of this transaction.
  update inventory.purchases p set created_at = now() - interval '1 hour' where p.id = pg_temp.purchase_id('one', 'ann');
  update inventory.payments y set created_at = now() - interval '1 hour' where y.id = pg_temp.payment_id('one', 'ann');
  perform api.take_provider_calls(1, 60, pg_temp.payment_id('two', 'ann'));
  perform api.finish_provider_call(c.id) from inventory.provider_calls c where c.payment_id = pg_temp.payment_id('two', 'ann');
  perform api.take_provider_calls(1, 60, pg_temp.payment_id('one', 'bob'));
  perform api.finish_provider_call(c.id) from inventory.provider_calls c where c.payment_id = pg_temp.payment_id('one', 'bob');
  perform pg_temp.make_sizes('shirt');
  perform api.reserve(pg_temp.drop_id('shirt'), pg_temp.user_id('bob'), null, 60, pg_temp.variant_id('shirt', name))
  from unnest(array['S', 'M']) name;
  perform pg_temp.hold('two', 'bob');
  update inventory.reservations r set created_at = now() - interval '1 hour' where r.id = pg_temp.hold_id('two', 'bob');
end
$$;

set constraints all immediate; -- messages are written at the commit
do $$
begin
  -- Its delivery is made before those of earlier messages.
  perform from api.send_test_webhook((select e.id from api.list_webhook_endpoints() e));
  perform api.fan_out_webhooks(100000);
  update inventory.webhook_deliveries d set created_at = now() - interval '1 hour'
  where d.message < (select max(x.message) - 2 from inventory.webhook_deliveries x);
end
$$;
select results_eq(
  'select array_agg(d.id order by d.id) from inventory.webhook_deliveries d where d.lane <> d.endpoint_id',
  'select array_agg(d.id order by d.message) from inventory.webhook_deliveries d where d.lane <> d.endpoint_id', 'Ids of deliveries rise in the order of the messages.');

-- The ids of the rows of a list after a row, as an ordinary caller gets them and as another node gives them.
create function pg_temp.list_after(p_list text, p_arguments text, p_id uuid, p_at timestamptz) returns uuid[] language plpgsql as $$
declare
  v_ids uuid[];
begin
  execute format(
    'select array_agg(id) from api.%I(%s p_limit => 1000, p_after => $1, p_after_at => $2)', p_list, p_arguments)
  into v_ids using p_id, p_at;
  return v_ids;
end
$$;
-- The rows for which the two differ.
create function pg_temp.differences(p_list text, p_arguments text) returns table (id uuid, looked_up uuid[], given uuid[]) language sql as $$
  select x.id, x.looked_up, x.given
  from (
    select
      all_ids.id, pg_temp.list_after(p_list, p_arguments, all_ids.id, null) as looked_up,
      pg_temp.list_after(p_list, p_arguments, all_ids.id, api.cursor_time(p_list, all_ids.id)) as given
    from unnest(pg_temp.list_after(p_list, p_arguments, null, null)) all_ids (id)
  ) x
  where x.looked_up is distinct from x.given
$$;
-- A row of another node: none here has its id. What comes after it, and after the row of this node just before it.
create function pg_temp.after_a_foreign_row(p_list text, p_arguments text) returns bigint language sql as $$
  select count(*) filter (where pg_temp.list_after(p_list, p_arguments, f.id, f.at) is not distinct from f.rest)
  from (
    select
      (left(l.id::text, 24) || 'ffffffffffff')::uuid as id, api.cursor_time(p_list, l.id) as at,
      array_prepend(l.id, pg_temp.list_after(p_list, p_arguments, l.id, null)) as rest
    from unnest(pg_temp.list_after(p_list, p_arguments, null, null)) l (id)
  ) f
$$;

create temp table list on commit drop as
select * from (values
  (1, 'list_drops', '', 'the drops on sale'),
  (2, 'list_drops', 'p_status => ''draft'',', 'the drafts'),
  (3, 'my_reservations', format('p_user_id => %L,', pg_temp.user_id('bob')), 'the reservations of a user'),
  (4, 'my_purchases', format('p_user_id => %L,', pg_temp.user_id('ann')), 'the purchases of a user'),
  (5, 'list_payments', '', 'the payments'),
  (6, 'list_payments', format('p_drop_id => %L,', pg_temp.drop_id('one')), 'the payments of a drop'),
  (7, 'list_provider_calls', '', 'the calls to providers'),
  (8, 'list_webhook_deliveries', format('p_endpoint_id => %L,', (select max(e.id::text) from inventory.webhook_endpoints e)),
    'the deliveries to an endpoint')
) as list (n, name, arguments, what);

select ok(
  cardinality(pg_temp.list_after(name, arguments, null, null)) >= 2, 'There are several of ' || what || '.') from list order by n;
select is_empty(
  format('select * from pg_temp.differences(%L, %L)', name, arguments), 'A page of ' || what || ' can begin after a time and an id.')
from list order by n;
select is(
  pg_temp.after_a_foreign_row(name, arguments), cardinality(pg_temp.list_after(name, arguments, null, null))::bigint,
  'Also after a row that is not here, for ' || what || '.')
from list order by n;

select is(api.cursor_time('list_drops', pg_temp.drop_id('one')), now() - interval '3 hours', 'The time of a drop is its start.');
select is(
  api.cursor_time('list_drops', pg_temp.drop_id('draft without start')), 'infinity', 'A drop without a start comes first.');
select is(
  pg_temp.refusal(format('select api.cursor_time(%L, %L)', name, pg_temp.user_id('ann'))),
  pg_temp.error('VALIDATION_ERROR', 'cursor: is not of this list; begin again without one'),
  'A row that is not there is no cursor of ' || name || '.')
from (select distinct on (name) name from list order by name) l;
do $$
begin
  perform api.update_drop(pg_temp.drop_id('draft'), '{"status": "cancelled"}');
end
$$;
select is(
  pg_temp.refusal(format('select api.cursor_time(%L, %L)', 'list_drops', pg_temp.drop_id('draft'))),
  pg_temp.error('VALIDATION_ERROR', 'cursor: is not of this list; begin again without one'),
  'Nor is a drop that is on no list.');
select is(
  pg_temp.refusal('select api.cursor_time(''history'', null)'), '22023 ''history'' is not a list that a router merges: ',
  'Other lists are of one drop.');

select * from finish();
rollback;
