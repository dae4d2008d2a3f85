-- The revision of a drop counts what a seller changes, by api.update_drop or by hand. Sales and the clock do not raise it.
begin;
select plan(14);

select pg_temp.make_users('seller', 'ann', 'bob');
select pg_temp.make_drop('shoes', 5);
create function pg_temp.revision() returns integer language sql stable as $$
  select revision from api.get_drop(pg_temp.drop_id('shoes'))
$$;

select is(pg_temp.revision(), 1, 'A new drop has revision 1.');
select pg_temp.buy('shoes', 'ann');
select pg_temp.hold('shoes', 'bob');
select pg_temp.let_run_out('shoes', 'bob');
do $$ begin perform api.expire_reservations(100); end $$;
select is(pg_temp.revision(), 1, 'Sales and holds that ran out do not raise it.');
select is(
  (select revision from api.update_drop(pg_temp.drop_id('shoes'), '{"price": 7}', 1)), 2, 'A change for this revision raises it.'
);
select is(
  pg_temp.refusal($$select api.update_drop(pg_temp.drop_id('shoes'), '{"price": 8}', 1)$$), pg_temp.error('DROP_CHANGED'),
  'A change for an old revision is refused.'
);
select is(
  pg_temp.refusal($$select api.update_drop(gen_random_uuid(), '{"price": 8}', 1)$$), pg_temp.error('DROP_NOT_FOUND'),
  'A drop that does not exist is told first.'
);
select is(
  (select revision from api.update_drop(pg_temp.drop_id('shoes'), '{"price": 7.00}')), 2, 'A change to the same value is none.'
);
update inventory.drops set name = name, price = 9 where id = pg_temp.drop_id('shoes');
select is(pg_temp.revision(), 3, 'A change by hand raises it.');
update inventory.drops set ends_at = now() where id = pg_temp.drop_id('shoes');
select is(pg_temp.revision(), 4, 'So does a time.');
do $$ begin perform api.advance_drops(); end $$;
select is(
  (select status || ' ' || revision from inventory.drops where id = pg_temp.drop_id('shoes')), 'ended 4',
  'The sweep that notes the end does not, because the drop had ended by the clock.'
);
select is(
  (select revision from api.update_drop(pg_temp.drop_id('shoes'), '{"name": "boots"}', null)), 5, 'Without a revision any will do.'
);

-- Variants.

select pg_temp.make_sizes('sizes');
-- Change the variants of the drop 'sizes': the format has %s for S and for M. Returns the revision and the rows of the history.
create function pg_temp.changed(p_format text) returns text language plpgsql as $$
declare
  v_variants jsonb := format(p_format, pg_temp.variant_id('sizes', 'S'), pg_temp.variant_id('sizes', 'M'));
  v_revision integer;
begin
  select u.revision into v_revision
  from api.update_drop(pg_temp.drop_id('sizes'), jsonb_build_object('variants', v_variants)) u;
  return concat_ws(' ', v_revision, (select count(*) from api.history(pg_temp.drop_id('sizes'))));
end
$$;
select is(pg_temp.changed('[{"id": "%s"}, {"id": "%s", "add_stock": 0, "name": "M", "price": null}]'), '1 1',
  'Variants that stay as they are do not raise it,');
select is(pg_temp.changed('[{"id": "%2$s"}, {"id": "%1$s"}]'), '2 2', 'another order does,');
select is(pg_temp.changed('[{"id": "%2$s", "total_stock": 4}, {"id": "%1$s", "total_stock": 3}]'), '3 3', 'and so does stock');
select is(pg_temp.changed('[{"id": "%2$s"}]'), '4 4', 'and a variant that goes.');

select * from finish();
rollback;
