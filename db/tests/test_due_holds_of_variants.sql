-- A reserve finds the due holds of the variant that it asks for, however many of other variants are older. So reads, which count all
-- due holds as stock, say what it finds.
begin;
select plan(7);

select pg_temp.make_users('seller', 'ann', 'bob', 'cat');
select pg_temp.make_sizes(
  name, null, '[{"name": "S", "total_stock": 1}, {"name": "M", "total_stock": 3}, {"name": "L", "total_stock": 5}]')
from unnest(array['one', 'many', 'basket', 'none']) as name;

-- Ann's holds of M are older than bob's of S, and all are due.
create function pg_temp.hold_both(p_drop text) returns void language plpgsql as $$
begin
  perform api.reserve(pg_temp.drop_id(p_drop), pg_temp.user_id('ann'), null, 60, pg_temp.variant_id(p_drop, 'M'), 3);
  perform api.reserve(pg_temp.drop_id(p_drop), pg_temp.user_id('bob'), null, 60, pg_temp.variant_id(p_drop, 'S'));
  perform pg_temp.let_run_out(p_drop, 'ann', now() - interval '2 seconds');
  perform pg_temp.let_run_out(p_drop, 'bob', now() - interval '1 second');
end
$$;
select pg_temp.hold_both(name) from unnest(array['one', 'many', 'basket']) as name;
do $$
begin
  perform api.reserve(pg_temp.drop_id('none'), pg_temp.user_id('ann'), null, 60, pg_temp.variant_id('none', 'M'), 3);
  perform api.reserve(pg_temp.drop_id('none'), pg_temp.user_id('bob'), null, 60, pg_temp.variant_id('none', 'S'));
  perform pg_temp.let_run_out('none', 'ann');
end
$$;

select is(
  (select array_agg(v.available_stock order by v.name) from api.get_drop(pg_temp.drop_id('one')) d cross join unnest(d.variants) v),
  array[5, 3, 1], 'Reads promise every due unit.'
);
select is(pg_temp.reserving('one', 'cat', 1, 'S'), 'nothing was raised', 'A reserve of the variant whose due hold is younger is served.');
select is(
  (select array_agg(o.code order by o.n) from api.reserve_batch(array[
    row(pg_temp.drop_id('many'), pg_temp.user_id('cat'), null, pg_temp.variant_id('many', 'S'), 1),
    row(pg_temp.drop_id('many'), pg_temp.user_id('ann'), null, pg_temp.variant_id('many', 'M'), 3)]::api.reserve_request[]) o),
  array[null, null]::text[], 'So are requests for both in one call.'
);
select is(
  (select array_agg(b.code) from api.reserve_basket(pg_temp.user_id('cat'), array[
    row(pg_temp.drop_id('basket'), pg_temp.variant_id('basket', 'M'), 1),
    row(pg_temp.drop_id('basket'), pg_temp.variant_id('basket', 'S'), 1)]::api.basket_item[]) b),
  array[null]::text[], 'And a basket of both.'
);
select is(
  pg_temp.reserving('none', 'cat', 1, 'S'), pg_temp.error('OUT_OF_STOCK', 'None left of what you asked for.'),
  'A due hold of another variant is no unit of this one.'
);
select is(pg_temp.reserving('none', 'cat', 3, 'M'), 'nothing was raised', 'It is one of its own.');
set constraints all immediate;
select is_empty('select * from pg_temp.findings()', 'No unit was lost or made up on the way.');

select * from finish();
rollback;
