-- api.update_drop changes a drop without breaking a promise: what is held or sold stays covered, and what is over stays over.
begin;
select plan(61);

create function pg_temp.stock_and_total_of(p_name text) returns text language sql stable as $$
  select d.available_stock || ' of ' || d.total_stock from inventory.drops d where d.id = pg_temp.drop_id(p_name)
$$;

select pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan', 'eve', 'fay');

-- The row, and what a change leaves alone.

do $$ begin perform pg_temp.make_drop_in('scheduled', 'row'); end $$;
create temp table changed on commit drop as
select * from api.update_drop(pg_temp.drop_id('row'), '{"price": 12.5, "total_stock": 11}');

select is(
  (select array_agg(key) from changed, json_object_keys(to_json(changed)) as key),
  array[
    'id', 'name', 'price', 'currency', 'total_stock', 'available_stock', 'variants', 'starts_at', 'ends_at', 'status',
    'paused_at', 'limit_per_user', 'hold_seconds', 'rehold_after_seconds', 'extension_seconds', 'revision', 'created_by', 'createdAt',
    'updatedAt', 'image_url'
  ],
  'The row has the names of the wire.'
);
select results_eq(
  $$select * from changed$$,
  $$
    values (
      pg_temp.drop_id('row'), 'row', 12.50, 'USD', 11, 11, '{}'::api.variant_row[], now() + interval '1 hour', null::timestamptz,
      'scheduled', null::timestamptz, null::integer, null::integer, 0, null::integer, 2, pg_temp.user_id('seller'),
      now() - interval '1 day', now(), null)
  $$,
  'The drop comes back as it is after the change, changed now.'
);
select results_eq(
  $$select * from pg_temp.stored_drops() where id = pg_temp.drop_id('row')$$,
  $$select * from changed$$,
  'What comes back is what is stored.'
);

create function pg_temp.changed_fields(p_changes jsonb) returns jsonb language plpgsql as $$
declare
  v_id uuid := pg_temp.make_drop_in('scheduled', 'fields');
  v_before jsonb := (select to_jsonb(d) from inventory.drops d where d.id = v_id);
  v_after jsonb;
begin
  perform api.update_drop(v_id, p_changes);
  v_after := (select to_jsonb(d) from inventory.drops d where d.id = v_id);
  update inventory.drops set name = 'done' where id = v_id;
  return (
    select jsonb_object_agg(a.key, a.value)
    from jsonb_each(v_after) a
    where a.key not in ('updated_at', 'revision') and a.value <> v_before -> a.key
  );
end
$$;
select is(pg_temp.changed_fields(v.changes), v.expected, format('A change of %s changes nothing else.', v.field))
from (values
  ('name', '{"name": "new name"}'::jsonb, '{"name": "new name"}'::jsonb),
  ('price', '{"price": 0.01}', '{"price": 0.01}'),
  ('starts_at', '{"starts_at": "2001-01-01T00:00:00Z"}', jsonb_build_object('starts_at', timestamptz '2001-01-01T00:00:00Z')),
  ('ends_at', '{"ends_at": "2100-01-01T00:00:00Z"}', jsonb_build_object('ends_at', timestamptz '2100-01-01T00:00:00Z')),
  ('total_stock', '{"total_stock": 15}', '{"total_stock": 15, "available_stock": 15}'),
  ('status', '{"status": "draft"}', '{"status": "draft"}')
) as v (field, changes, expected);
select is(
  pg_temp.changed_fields('{"name": "new", "price": 20, "ends_at": "2100-01-01T00:00:00Z", "status": "draft"}'),
  jsonb_build_object('name', 'new', 'price', 20.00, 'ends_at', timestamptz '2100-01-01T00:00:00Z', 'status', 'draft'),
  'Several fields change together.'
);

-- Values that are refused, with the name of the field.

do $$ begin perform pg_temp.make_drop_in('draft', 'values'); end $$;
select is(pg_temp.refusal_of_update('values', v.changes), 'PT400 VALIDATION_ERROR: ' || v.expected, v.description)
from (values
  ('{}'::jsonb, 'body: must be an object with at least one field to change', 'A change of nothing is refused.'),
  ('[]', 'body: must be an object with at least one field to change', 'A list is refused.'),
  ('null', 'body: must be an object with at least one field to change', 'A null of JSON is refused.'),
  (null, 'body: must be an object with at least one field to change', 'A null of SQL is refused.'),
  ('{"colour": "red"}', 'colour: is not a field that can be set', 'An unknown field is refused.'),
  ('{"available_stock": 3}', 'available_stock: is not a field that can be set', 'Available stock cannot be set.'),
  ('{"name": "new", "created_by": null}', 'created_by: is not a field that can be set', 'A drop cannot change its seller.'),
  ('{"id": "x"}', 'id: is not a field that can be set', 'A drop cannot change its id.'),
  ('{"name": null}', 'name: may not be null', 'A name cannot be cleared.'),
  ('{"price": null}', 'price: may not be null', 'A price cannot be cleared.'),
  ('{"status": null}', 'status: may not be null', 'A status cannot be cleared.'),
  ('{"total_stock": null}', 'total_stock: may not be null', 'A stock cannot be cleared.'),
  ('{"name": " "}', 'name: must be 1 to 200 characters, not all blank, without control characters', 'A blank name is refused.'),
  ('{"name": "a\nb"}', 'name: must be 1 to 200 characters, not all blank, without control characters',
    'A name with a control character is refused.'),
  (jsonb_build_object('name', repeat('x', 201)), 'name: must be 1 to 200 characters, not all blank, without control characters',
    'A name of 201 characters is refused.'),
  ('{"price": -1}', 'price: must be 0 or more', 'A negative price is refused.'),
  ('{"price": 19.999}', 'price: must be less than 10000000000 with at most two decimals',
    'A price is refused rather than rounded.'),
  ('{"price": 10000000000}', 'price: must be less than 10000000000 with at most two decimals',
    'A price beyond what can be stored is refused.'),
  ('{"total_stock": 0}', 'total_stock: must be 1 or more', 'A stock of no units is refused.'),
  ('{"total_stock": -1}', 'total_stock: must be 1 or more', 'A negative stock is refused.'),
  ('{"status": "sold"}', 'status: must be draft, scheduled, live, ended or cancelled', 'A status that is none is refused.')
) as v (changes, expected, description);
-- The server words the reason for these, in its own language.
select throws_ok(
  format('select api.update_drop(pg_temp.drop_id(''values''), %L)', v.changes), 'PT400', 'VALIDATION_ERROR', v.description
)
from (values
  ('{"total_stock": "many"}', 'A stock that is no number is refused.'),
  ('{"total_stock": 1.5}', 'A stock that is not whole is refused, not rounded.'),
  ('{"total_stock": 3000000000}', 'A stock beyond what can be stored is refused.'),
  ('{"price": "cheap"}', 'A price that is no number is refused.'),
  ('{"starts_at": "soon"}', 'A start that is no time is refused.'),
  ('{"ends_at": "2026-02-30T00:00:00Z"}', 'An end on a day that does not exist is refused.')
) as v (changes, description);
select throws_ok(
  format('select api.update_drop(%L, ''{"name": "new"}'')', v.id), 'PT404', 'DROP_NOT_FOUND', v.description
)
from (values (gen_random_uuid(), 'A drop that does not exist is not found.'), (null, 'No drop is not found.'))
  as v (id, description);

-- Stock: of ten units one is sold and three are held.

create function pg_temp.new_sale(p_name text) returns void language plpgsql as $$
begin
  perform pg_temp.make_drop_in('live', p_name);
  perform api.reserve(pg_temp.drop_id(p_name), pg_temp.user_id(name)) from unnest(array['ann', 'bob', 'cat', 'dan']) as name;
  perform api.purchase(pg_temp.drop_id(p_name), pg_temp.user_id('ann'));
end
$$;
do $$
begin
  perform pg_temp.new_sale(name)
  from unnest(array['restock', 'reclaim', 'reclaim one', 'reclaim in vain', 'reclaim in a moment', 'cancel']) as name;
  perform api.update_drop(pg_temp.drop_id('restock'), '{"total_stock": 15}');
end
$$;
select is(pg_temp.stock_and_total_of('restock'), '11 of 15', 'A restock adds to what is available.');
do $$ begin perform api.update_drop(pg_temp.drop_id('restock'), '{"total_stock": 4}'); end $$;
select is(pg_temp.stock_and_total_of('restock'), '0 of 4', 'Stock can be lowered to what is held and sold.');
select is(
  pg_temp.refusal_of_update('restock', '{"total_stock": 3}'),
  'PT409 STOCK_BELOW_COMMITTED: total_stock may not be less than the 4 units held and sold.', 'It cannot be lowered further.'
);
select throws_ok(
  $$select api.update_drop(pg_temp.drop_id('restock'), '{"total_stock": 1}')$$, 'PT409', 'STOCK_BELOW_COMMITTED',
  'What is held and sold stays covered.'
);
do $$ begin perform api.update_drop(pg_temp.drop_id('restock'), '{"total_stock": 4, "name": "restock"}'); end $$;
select is(pg_temp.stock_and_total_of('restock'), '0 of 4', 'The same stock again changes nothing.');

do $$
begin
  perform pg_temp.let_run_out(name, 'bob') from unnest(array['reclaim', 'reclaim one', 'reclaim in vain']) as name;
  perform pg_temp.let_run_out(name, 'cat', now() - interval '1 second') from unnest(array['reclaim', 'reclaim one', 'reclaim in vain']) as name;
  perform pg_temp.let_run_out('reclaim in a moment', 'bob', now() - interval '-1 microsecond');
  perform api.update_drop(pg_temp.drop_id('reclaim'), '{"total_stock": 2}');
  perform api.update_drop(pg_temp.drop_id('reclaim one'), '{"total_stock": 3}');
end
$$;
select is(pg_temp.stock_and_total_of('reclaim'), '0 of 2', 'Due holds make room for less stock.');
select is(
  pg_temp.statuses_on('reclaim'), array['ann CONSUMED', 'bob EXPIRED', 'cat EXPIRED', 'dan ACTIVE'],
  'They are EXPIRED, others are not.'
);
select is(
  pg_temp.statuses_on('reclaim one'), array['ann CONSUMED', 'bob EXPIRED', 'cat EXPIRED', 'dan ACTIVE'],
  'All due holds are taken back, because by the clock they are stock.'
);
select is(pg_temp.stock_and_total_of('reclaim one'), '1 of 3', 'What was not in the way of the new stock is available.');
select is(
  pg_temp.refusal_of_update('reclaim in vain', '{"total_stock": 1}'),
  'PT409 STOCK_BELOW_COMMITTED: total_stock may not be less than the 2 units held and sold.',
  'Where that does not suffice, the refusal counts what is left.'
);
select is(
  pg_temp.refusal_of_update('reclaim in a moment', '{"total_stock": 3}'),
  'PT409 STOCK_BELOW_COMMITTED: total_stock may not be less than the 4 units held and sold.',
  'A hold with a microsecond left is in the way.'
);

-- Cancelling.

do $$
begin
  perform pg_temp.let_run_out('cancel', 'bob', now() - interval '1 second');
  update inventory.reservations set updated_at = now() - interval '1 day' where drop_id = pg_temp.drop_id('cancel');
  perform api.update_drop(pg_temp.drop_id('cancel'), '{"status": "cancelled"}');
end
$$;
select is(
  pg_temp.statuses_on('cancel'), array['ann CONSUMED', 'bob EXPIRED', 'cat CANCELLED', 'dan CANCELLED'],
  'Cancelling a drop releases every hold. One that is due has expired.'
);
select is(
  (select count(*) from inventory.reservations where drop_id = pg_temp.drop_id('cancel') and updated_at = now()), 3::bigint,
  'The holds say that they changed.'
);
select is(pg_temp.stock_and_total_of('cancel'), '9 of 10', 'All units but the sold one are back in stock.');
select is(
  (select array_agg(status) from inventory.purchases where drop_id = pg_temp.drop_id('cancel')), array['paid'],
  'Purchases are left to be refunded one by one.'
);
select is(
  pg_temp.statuses_on('restock'), array['ann CONSUMED', 'bob ACTIVE', 'cat ACTIVE', 'dan ACTIVE'],
  'Holds on other drops are not touched.'
);

select is(
  (select available_stock || ' of ' || total_stock
   from api.update_drop(pg_temp.drop_id('restock'), '{"status": "cancelled", "total_stock": 1}')),
  '0 of 1',
  'Cancelling releases the holds before the new stock is looked at.'
);

select throws_matching(
  format('select api.update_drop(pg_temp.drop_id(''cancel''), %L)', v.changes), '^VALIDATION_ERROR', v.description)
from (values
  ('{"name": {"a": 5}}', 'A name that is no string is refused, not converted.'),
  ('{"total_stock": "many"}', 'A stock that is no number is refused.'),
  ('{"total_stock": 1.5}', 'Half a unit is refused.'),
  ('{"starts_at": "soon"}', 'A time that is none is refused.')
) as v (changes, description);

select is_empty(
  $$
    select a.* from api.audit() a join inventory.drops d on d.id = a.drop_id where d.created_by = pg_temp.user_id('seller')
  $$,
  'No unit was lost or made up on the way.'
);

select * from finish();
rollback;
