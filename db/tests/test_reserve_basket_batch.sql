-- Many baskets in one call: one outcome for each, in their order. tests/shop/test_basket_batches.py compares random ones.
begin;
select * from no_plan();

select pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan');
select pg_temp.make_drops('shoes', 'hats', 'few');
do $$ begin perform api.update_drop(pg_temp.drop_id('few'), '{"total_stock": 2}'); end $$;

-- A request for the drops of a text such as "shoes, few 2".
create function pg_temp.basket(p_user text, p_items text, p_key text default null) returns api.basket_request
language sql stable as $$
  select row(
    pg_temp.user_id(p_user),
    (
      select array_agg(row(pg_temp.drop_id(word[1]), null, word[2])::api.basket_item order by i.n)
      from string_to_table(p_items, ', ') with ordinality as i (item, n)
      cross join lateral string_to_array(i.item, ' ') as word
    ),
    p_key)::api.basket_request
$$;

create function pg_temp.outcomes(variadic p_requests api.basket_request[]) returns text[] language sql as $$
  select array_agg(concat_ws(
    ' ', o.n, o.status, o.code, case when o.replayed then 'replayed' end,
    case when o.code = 'BASKET_REFUSED' then
      (
        select string_agg(i.index || ':' || i.code, ',' order by i.index)
        from json_populate_recordset(null::api.refused_item, o.data) i
      )
    end) order by o.n)
  from api.reserve_basket_batch(p_requests, 90) o
$$;

create function pg_temp.stocks() returns text language sql stable as $$
  select string_agg(d.name || ' ' || d.available_stock, ', ' order by d.name)
  from inventory.drops d where d.created_by = pg_temp.user_id('seller')
$$;

select is(
  pg_temp.outcomes(
    pg_temp.basket('ann', 'shoes, few'), pg_temp.basket('bob', 'hats, few 2'), pg_temp.basket('nobody', 'shoes'),
    pg_temp.basket('cat', 'few, hats'), pg_temp.basket('dan', 'few, hats, shoes 11')),
  array[
    '1 201', '2 409 BASKET_REFUSED 1:OUT_OF_STOCK', '3 401 AUTH_REQUIRED', '4 201',
    '5 409 BASKET_REFUSED 0:OUT_OF_STOCK,2:OUT_OF_STOCK'
  ],
  'Each basket gets what those before it have left; one that is refused takes nothing from those after it.'
);
select is(pg_temp.stocks(), 'few 0, hats 9, shoes 9', 'Only the units of the baskets that are held are taken.');
select is(
  pg_temp.outcomes(
    pg_temp.basket('bob', 'shoes', 'key'), pg_temp.basket('bob', 'shoes', 'key'), pg_temp.basket('bob', 'hats', 'key'),
    pg_temp.basket('dan', 'few', 'key'), pg_temp.basket('dan', 'hats', 'key'), pg_temp.basket('dan', 'hats')),
  array[
    '1 201', '2 200 replayed', '3 422 IDEMPOTENCY_KEY_REUSED', '4 409 BASKET_REFUSED 0:OUT_OF_STOCK', '5 201',
    '6 409 BASKET_REFUSED 0:ALREADY_RESERVED'
  ],
  'Requests of one user keep their order, and a refusal does not spend the key.'
);
select is(
  pg_temp.outcomes(
    pg_temp.basket('bob', 'shoes', 'key'), pg_temp.basket('bob', 'hats', 'key'), pg_temp.basket('ann', 'hats, hats 2'),
    pg_temp.basket('ann', null), pg_temp.basket('ann', 'hats')),
  array['1 200 replayed', '2 422 IDEMPOTENCY_KEY_REUSED', '3 400 VALIDATION_ERROR', '4 400 VALIDATION_ERROR', '5 201'],
  'A key of an earlier call is known, and a list of items that no basket can have is no trouble to the others.'
);
select results_eq(
  $$
    select o.message, o.data::text from api.reserve_basket_batch(array[pg_temp.basket('ann', 'hats, hats 2')]) o
  $$,
  $$values ('items: two items are the same drop and variant; give one with their qty together', null::text)$$,
  'The sentence says what is wrong with it.'
);
create temp table made on commit drop as
select o.data::jsonb as data from api.reserve_basket_batch(array[pg_temp.basket('cat', 'shoes 2', 'new')]) o;
select is(
  (select data from made),
  (select to_jsonb(b) from made cross join lateral api.get_basket((made.data ->> 'id')::uuid, pg_temp.user_id('cat')) b),
  'The data of a basket that is held is the basket.'
);
select is_empty('select * from api.reserve_basket_batch(''{}'')', 'No request, no outcome.');
select is_empty('select * from api.reserve_basket_batch(null)', 'The same for null.');
select is(current_setting('lock_timeout'), '0', 'The lock_timeout of the caller is in force again.');
select is(
  pg_temp.refusal(format(
    'select api.reserve_basket_batch(array[pg_temp.basket(''ann'', %L, %L)], %s)', v.items, v.key, v.ttl)),
  pg_temp.error('VALIDATION_ERROR', v.sentence), v.sentence
)
from (values
  ('shoes 0', 'k', 60, 'qty: must be 1 or more'),
  ('shoes', 'a b', 60, 'Idempotency-Key: must be 1 to 255 visible ASCII characters'),
  ('shoes', 'k', 0, 'p_ttl_seconds: must be between 1 and 86400')
) as v (items, key, ttl, sentence);

-- A drop that is sold out is not locked. A unit of a variant that comes back just then must not be taken without the lock.

do $$
begin
  perform api.create_drop(
    'sizes', 5, null, pg_temp.user_id('seller'), now(), p_variants => '[{"name": "S", "total_stock": 1}]');
end
$$;
select is(
  (
    select v.code
    from inventory.drops d
    cross join lateral (
      select (inventory.reserve_decisions(
        array[d.id], array[jsonb_populate_record(d, '{"available_stock": 0}')],
        array(select v from inventory.variants v where v.drop_id = d.id),
        array[row(d.id, pg_temp.user_id('ann'), null, pg_temp.variant_id('sizes', 'S'), 1)::api.reserve_request]
      )).codes[1] as code
    ) v
    where d.id = pg_temp.drop_id('sizes')
  ),
  'OUT_OF_STOCK', 'No single reserve takes it.'
);
select is(
  (
    select v.code
    from inventory.drops d
    cross join lateral (
      select (inventory.reserve_decisions(
        array[d.id], array[jsonb_populate_record(d, '{"available_stock": 0}')],
        array(select v from inventory.variants v where v.drop_id = d.id),
        array[row(d.id, pg_temp.user_id('ann'), null, pg_temp.variant_id('sizes', 'S'), 1)::api.reserve_request],
        array[1], array[1])).codes[1] as code
    ) v
    where d.id = pg_temp.drop_id('sizes')
  ),
  'OUT_OF_STOCK', 'No basket takes it.'
);

select is_empty('select * from pg_temp.findings()', 'No unit was lost or made up on the way.');
select * from finish();
rollback;
