-- A drop may have variants: sizes or tiers with a stock each. The stock of the drop is their sum, and a reserve names one.
begin;
select plan(64);

select pg_temp.make_users('seller', 'ann', 'bob', 'cat');

-- Made.

select pg_temp.make_sizes('shirts', null, '[
  {"name": "S", "total_stock": 2}, {"name": "M", "total_stock": 5, "price": null},
  {"name": "L, signed", "total_stock": 1, "price": 25.5}]');
select is(
  pg_temp.variants_of('shirts'), array['S 2 of 2 at 10.00', 'M 5 of 5 at 10.00', 'L, signed 1 of 1 at 25.50'],
  'Variants are shown in the order given, each with its price or the drop''s.'
);
select results_eq(
  $$select total_stock, available_stock from api.get_drop(pg_temp.drop_id('shirts'))$$, 'values (8, 8)',
  'The stock of the drop is their sum.'
);
select is(
  pg_temp.refusal(format(
    'select api.create_drop(''bad'', 10, %s, %L, p_variants => %L)', v.stock, pg_temp.user_id('seller'), v.variants)),
  pg_temp.error('VALIDATION_ERROR', v.sentence), v.description
)
from (values
  ('3', '[{"name": "S", "total_stock": 3}]', 'total_stock: give it or variants, not both', 'A drop has a stock or variants.'),
  ('null', null, 'total_stock: is required, or variants instead', 'It has one of the two.'),
  ('null', '[]', 'variants: must be an array of 1 to 200 objects', 'No variants are refused.'),
  ('null', '{}', 'variants: must be an array of 1 to 200 objects', 'So is an object.'),
  ('null', 'null', 'variants: must be an array of 1 to 200 objects', 'So is null as JSON.'),
  ('null', '["S"]', 'variants: must be an array of objects', 'So is a name alone.'),
  ('null', '[{"total_stock": 3}]', 'variants: a new variant needs a name and a total_stock', 'A variant needs a name.'),
  ('null', '[{"name": 7, "total_stock": 3}]', 'variants.name: must be a string', 'The name is a string.'),
  ('null', '[{"name": " ", "total_stock": 3}]',
    'variants.name: must be 1 to 200 characters, not all blank, without control characters', 'It is not blank.'),
  ('null', '[{"name": "S"}]', 'variants: a new variant needs a name and a total_stock', 'A variant needs a stock.'),
  ('null', '[{"name": "S", "total_stock": 0}]', 'variants.total_stock: must be 1 or more', 'Of one unit at least.'),
  ('null', '[{"name": "S", "total_stock": 1.5}]', 'variants.total_stock: must be 1 or more', 'Of whole units.'),
  ('null', '[{"name": "S", "total_stock": 2147483648}]', 'variants.total_stock: must be 1 or more',
    'Not of more than an integer.'),
  ('null', '[{"name": "S", "total_stock": 2147483647}, {"name": "M", "total_stock": 1}]',
    'variants: have more units together than a drop can have', 'Nor are all of them together.'),
  ('null', '[{"name": "S", "total_stock": 1, "price": "5"}]', 'variants.price: must be a number', 'A price is a number.'),
  ('null', '[{"name": "S", "total_stock": 1, "price": -1}]', 'variants.price: must be 0 or more', 'It is not negative.'),
  ('null', '[{"name": "S", "total_stock": 1, "price": 1.001}]',
    'variants.price: must be less than 10000000000 with at most two decimals', 'It has the decimals of the currency.'),
  ('null', '[{"name": "S", "total_stock": 1, "size": 1}]',
    'variants: a variant has name, total_stock and price, nothing else', 'A field that is no field of a variant is refused.'),
  ('null', '[{"name": "S", "total_stock": 1}, {"name": "S", "total_stock": 1}]',
    'variants.name: two variants of a drop have the same name', 'Two of one name are refused.')
) as v (stock, variants, sentence, description);

-- Reserved, sold, given back.

select is(
  pg_temp.reserving('shirts', 'ann'), pg_temp.error('VARIANT_NOT_FOUND', 'This drop has variants. Say which one: variant_id.'),
  'A reserve that names no variant is refused, and told so.'
);
select pg_temp.make_sizes('other');
select pg_temp.make_drop('plain');
select is(
  pg_temp.refusal(format('select api.reserve(%L, %L, p_variant_id => %L)', pg_temp.drop_id(v.drop_name), pg_temp.user_id('ann'),
    pg_temp.variant_id('other', 'S'))),
  pg_temp.error('VARIANT_NOT_FOUND'), v.description
)
from (values ('shirts', 'A variant of another drop is not found.'), ('plain', 'Nor is one of a drop without variants.'))
  as v (drop_name, description);
select is(pg_temp.reserving('shirts', 'ann', 1, 'S'), 'nothing was raised', 'A variant is held by its id.');
select is(pg_temp.reserving('shirts', 'ann', 1, 'S'), pg_temp.error('ALREADY_RESERVED'), 'A user has one hold of a variant.');
select is(pg_temp.reserving('shirts', 'ann', 2, 'M'), 'nothing was raised', 'The same user may hold another variant.');
select is(pg_temp.reserving('shirts', 'bob', 1, 'S'), 'nothing was raised', 'Another user takes the last unit of a variant.');
select is(pg_temp.reserving('shirts', 'cat', 1, 'S'), pg_temp.error('OUT_OF_STOCK', 'None left of what you asked for.'), 'Then this variant is sold out,');
select is(pg_temp.reserving('shirts', 'cat', 1, 'M'), 'nothing was raised', 'and another one is not.');
select is(
  pg_temp.variants_of('shirts') || pg_temp.stock_of('shirts')::text,
  array['S 0 of 2 at 10.00', 'M 2 of 5 at 10.00', 'L, signed 1 of 1 at 25.50', '3'],
    'Stock goes down in the variant and in the drop.'
);
do $$
begin
  perform api.purchase(pg_temp.drop_id('shirts'), pg_temp.user_id('bob'));
  perform api.refund_purchase(pg_temp.purchase_id('shirts', 'bob'));
  perform api.cancel_reservation(r.id, r.user_id) from inventory.reservations r
  where r.drop_id = pg_temp.drop_id('shirts') and r.variant_id = pg_temp.variant_id('shirts',
    'M') and r.user_id = pg_temp.user_id('ann');
  perform pg_temp.let_run_out('shirts', 'cat');
  perform api.expire_reservations(1000);
end
$$;
select is(
  pg_temp.variants_of('shirts') || pg_temp.stock_of('shirts')::text,
  array['S 1 of 2 at 10.00', 'M 5 of 5 at 10.00', 'L, signed 1 of 1 at 25.50', '7'],
  'A refund, a cancel and a hold that ran out give units back to their variants and to the drop.'
);

-- Changed.

-- Change the variants of the drop; $S and so on stand for ids. What it raises, or the variants afterwards.
create function pg_temp.changed(p_drop text, p_variants text) returns text language plpgsql as $$
declare
  v_name text;
  v_refusal text;
begin
  foreach v_name in array array['S', 'M', 'XL'] loop
    p_variants := replace(p_variants, '$' || v_name || '$', '"id": "' || coalesce(pg_temp.variant_id(p_drop, v_name)::text,
      'none') || '"');
  end loop;
  v_refusal := pg_temp.refusal_of_update(p_drop, jsonb_build_object('variants', p_variants::jsonb));
  return case when v_refusal = 'nothing was raised' then pg_temp.variants_of(p_drop)::text else v_refusal end;
end
$$;

select is(pg_temp.changed('other', v.variants), v.expected, v.description)
from (values
  (1, '[{$S$}, {$M$}, {"name": "XL", "total_stock": 3, "price": 12}]',
    '{"S 2 of 2 at 10.00","M 5 of 5 at 10.00","XL 3 of 3 at 12.00"}', 'A variant is added.'),
  (2, '[{$XL$}, {$M$}, {$S$}]', '{"XL 3 of 3 at 12.00","M 5 of 5 at 10.00","S 2 of 2 at 10.00"}',
    'They are put in another order.'),
  (3, '[{$XL$, "name": "M"}, {$M$, "name": "XL"}, {$S$, "name": "Small"}]',
    '{"M 3 of 3 at 12.00","XL 5 of 5 at 10.00","Small 2 of 2 at 10.00"}', 'Two exchange their names, one gets a new one.'),
  (4, '[{$M$, "name": "XL"}, {$XL$, "name": "M", "total_stock": 7}, {"name": "S", "total_stock": 2}]',
    '{"XL 3 of 3 at 12.00","M 7 of 7 at 10.00","S 2 of 2 at 10.00"}', 'One that is not named goes; the stock of one changes.'),
  (5, '[{$XL$, "price": null, "add_stock": -1}, {$M$, "add_stock": 2}, {$S$}]',
    '{"XL 2 of 2 at 10.00","M 9 of 9 at 10.00","S 2 of 2 at 10.00"}',
      'Units are added and taken away; a price is the drop''s again.'),
  (6, '[{$XL$}, {$XL$}, {$M$}, {$S$}]', null, 'One that is named twice is refused.'),
  (7, '[{$M$, "name": "S"}, {$S$}]', 'PT400 VALIDATION_ERROR: variants.name: two variants of a drop have the same name',
    'A name that another one keeps is refused.'),
  (8, '[{$M$, "add_stock": "2"}, {$S$}]',
    'PT400 VALIDATION_ERROR: variants.add_stock: must be a whole number', 'A string is no number of units.'),
  (9, '[{$M$, "add_stock": 2, "total_stock": 2}, {$S$}]',
    'PT400 VALIDATION_ERROR: variants.add_stock: give it or total_stock, not both', 'Nor are two numbers one.'),
  (10, '[{$M$, "total_stock": 0}, {$S$}]', 'PT400 VALIDATION_ERROR: variants.total_stock: must be 1 or more', 'Nor is none.'),
  (11, '[{$M$, "add_stock": -9}, {$S$}]', 'PT400 VALIDATION_ERROR: variants.total_stock: must be 1 or more',
    'Nor is one that is taken away to the last unit.'),
  (12, '[{$M$, "add_stock": 2147483647}, {$S$}]', 'PT400 VALIDATION_ERROR: variants.total_stock: must be 2147483647 or less',
    'A variant does not get more units than a number can count.'),
  (13, '[{"id": "x"}]', 'PT404 VARIANT_NOT_FOUND: This drop has no variant x, or it is named twice.',
    'An id that is none is not found.')
) as v (n, variants, expected, description)
where v.expected is not null
order by v.n;
select matches(
  pg_temp.changed('other', '[{$XL$}, {$XL$}, {$M$}, {$S$}]'), '^PT404 VARIANT_NOT_FOUND: .* named twice',
    'One that is named twice is refused.'
);
select is(pg_temp.stock_of('other'), 13, 'The stock of the drop is the sum of what they have now.');
select is(
  pg_temp.refusal_of_update('other', v.changes), pg_temp.error('VALIDATION_ERROR', v.sentence), v.description
)
from (values
  ('{"total_stock": 20, "variants": [{"name": "S", "total_stock": 20}]}'::jsonb,
    'total_stock: give it or variants, not both', 'Only one of the two is given.'),
  ('{"total_stock": 20}', 'total_stock: is the sum of the variants; change theirs', 'The sum is not set.'),
  ('{"add_stock": 1}', 'add_stock: total_stock is the sum of the variants; add to theirs', 'Nor is it added to.')
) as v (changes, sentence, description);

-- In use.

do $$
begin
  perform pg_temp.make_sizes('used');
  perform pg_temp.reserving('used', 'ann', 2, 'M');
  perform pg_temp.reserving('used', 'bob', 1, 'S');
  perform api.cancel_reservation(pg_temp.hold_id('used', 'bob'), pg_temp.user_id('bob'));
end
$$;
select is(pg_temp.changed('used', v.variants), v.expected, v.description)
from (values
  ('[{$S$}]', 'PT409 VARIANT_IN_USE: Units of M were held or sold, so it cannot go.', 'A variant that is held cannot go.'),
  ('[{$M$}]', 'PT409 VARIANT_IN_USE: Units of S were held or sold, so it cannot go.', 'Nor can one that was held.'),
  ('[{$S$}, {$M$, "total_stock": 1}]',
    'PT409 STOCK_BELOW_COMMITTED: total_stock of M may not be less than the 2 units held and sold.',
    'Its stock covers what is held.'),
  ('[{$S$}, {$M$, "total_stock": 2}]', '{"S 2 of 2 at 10.00","M 0 of 2 at 10.00"}', 'It may be no more than that.')
) as v (variants, expected, description);
select pg_temp.let_run_out('used', 'ann');
select is(
  pg_temp.changed('used', '[{$S$}, {$M$, "total_stock": 1}]'), '{"S 2 of 2 at 10.00","M 1 of 1 at 10.00"}',
  'A hold that ran out is not in the way.'
);
select pg_temp.hold('plain', 'ann');
select is(
  pg_temp.refusal_of_update('plain', '{"variants": [{"name": "S", "total_stock": 10}]}'),
  pg_temp.error('VARIANT_IN_USE', 'Units of this drop are held or sold without a variant, so it cannot be given variants.'),
  'A drop of which units are held gets no variants, because its units would belong to none.'
);
do $$ begin perform api.cancel_reservation(pg_temp.hold_id('plain', 'ann'), pg_temp.user_id('ann')); end $$;
select is(
  pg_temp.refusal_of_update('plain', '{"variants": [{"name": "S", "total_stock": 10}]}'),
  pg_temp.error('VARIANT_IN_USE', 'Units of this drop were held or sold without a variant, so it cannot get variants.'),
  'Nor does it when all went back, because the history of its holds names none.'
);
do $$ begin perform pg_temp.make_drop('untouched'); end $$;
select is(
  pg_temp.changed('untouched', '[{"name": "S", "total_stock": 4}]'), '{"S 4 of 4 at 10.00"}',
  'A drop of which nothing was held does.'
);

-- Announced.

select is(
  (select array_agg(split_part(e, ' ', 1)) from unnest(pg_temp.announced(v.statement)) e), v.events, v.description)
from (values
  ($$select pg_temp.changed('other', '[{$XL$}, {$S$}, {$M$}]')$$, array['DROP_UPDATED'], 'Another order is announced.'),
  ($$select pg_temp.changed('other', '[{$XL$, "price": 3}, {$S$}, {$M$}]')$$, array['DROP_UPDATED'],
    'So is a price of a variant.'),
  ($$set local lastpair.is_by_hand = off; select pg_temp.changed('other', '[{$XL$, "price": 4}, {$S$}, {$M$}]')$$,
    array['DROP_UPDATED'], 'Whatever the session has set.'),
  ($$select pg_temp.changed('other', '[{$XL$}, {$S$}, {$M$}]')$$, null, 'What changes nothing is not.'),
  ($$select pg_temp.reserving('other', 'ann', 1, 'M')$$, array['STOCK_UPDATED'], 'A hold is announced as stock.')
) as v (statement, events, description);
select is(
  (pg_temp.announced($$select pg_temp.reserving('other', 'bob', 2, 'M')$$))[1],
  format('STOCK_UPDATED {"dropId":"other","availableStock":10,"variants":[{"id":"%s","availableStock":6}]}',
    pg_temp.variant_id('other', 'M')),
  'STOCK_UPDATED names the variants whose stock changed.'
);
select is_empty('select * from pg_temp.findings()', 'No unit was lost or made up on the way.');

select * from finish();
rollback;
