-- api.errors defines every refusal once, and inventory.refuse raises exactly what is defined: clients branch on these codes.
begin;
select plan(17);

select ok(count(*) > 0 and count(*) = count(distinct code), 'Codes are unique.') from api.errors();
select is_empty(
  $$select * from api.errors() where status not between 400 and 499 or status is null$$, 'A refusal is never a 5xx.'
);
select is_empty(
  $$select * from api.errors() where coalesce(message, '') !~ '^\S.*\.$'$$, 'Each has a sentence for people.'
);
select is_empty($$select * from api.errors() where code is null or code !~ '^[A-Z]+(_[A-Z]+)+$'$$, 'Codes are in capitals.');
select bag_eq(
  $$select code, status from api.errors()$$,
  $$values
    ('VALIDATION_ERROR', 400), ('AUTH_REQUIRED', 401), ('DROP_NOT_FOUND', 404), ('RESERVATION_NOT_FOUND', 404),
    ('PURCHASE_NOT_FOUND', 404), ('DROP_NOT_ACTIVE', 409), ('OUT_OF_STOCK', 409), ('ALREADY_RESERVED', 409),
    ('NO_ACTIVE_RESERVATION', 409), ('RESERVATION_EXPIRED', 409), ('RESERVATION_NOT_ACTIVE', 409), ('INVALID_STATUS_CHANGE', 409),
    ('STOCK_BELOW_COMMITTED', 409), ('USERNAME_TAKEN', 409)$$,
  'The codes and their HTTP statuses are those of the contract.'
);
-- A code that is not defined would reach the caller as an internal error. The types of events look like codes.
select is_empty(
  $$
    select p.oid::regprocedure, named.code[1]
    from pg_proc p
    cross join lateral regexp_matches(p.prosrc, '''([A-Z]+(?:_[A-Z]+)+)''', 'g') as named (code)
    where p.pronamespace in ('inventory'::regnamespace, 'api'::regnamespace)
      and named.code[1] not in (select e.code from api.errors() e)
      and named.code[1] not in (
        'DROP_CREATED', 'DROP_UPDATED', 'STOCK_UPDATED', 'PURCHASE_COMPLETED', 'ACTIVITY_UPDATED', 'RESYNC_REQUIRED')
  $$,
  'Functions name no code that is not defined.'
);
select isnt_empty(
  $$
    select from pg_proc p
    where p.pronamespace = 'inventory'::regnamespace and p.prosrc ~ '''([A-Z]+(?:_[A-Z]+)+)'''
  $$,
  'Functions do name codes, so that the check above has something to find.'
);

select is_empty(
  $$
    select e.code, pg_temp.refusal(format('select inventory.refuse(%L)', e.code))
    from api.errors() e
    where pg_temp.refusal(format('select inventory.refuse(%L)', e.code))
      is distinct from format('PT%s %s: %s', e.status, e.code, e.message)
  $$,
  'Each is raised as SQLSTATE PT and its status, with the code as message and the sentence as detail.'
);
select is(
  pg_temp.refusal($$select inventory.refuse('OUT_OF_STOCK', 'None left, 100 % sold.')$$),
  'PT409 OUT_OF_STOCK: None left, 100 % sold.',
  'A more precise sentence takes the place of the general one.'
);
select throws_ok(
  $$select inventory.refuse('NO_SUCH_CODE')$$, 'P0002', null, 'A code that is not defined cannot be raised by mistake.'
);

select is(
  pg_temp.refusal($$select inventory.refuse_constraint('drops_price_check')$$),
  'PT400 VALIDATION_ERROR: price: must be 0 or more',
  'A violated constraint speaks in the words of its comment.'
);
select throws_ok(
  $$select inventory.refuse_constraint('reservations_status_check')$$, 'P0001',
  'constraint reservations_status_check has no comment to refuse with', 'A constraint without a comment is an internal error.'
);

select is(pg_temp.refusal(format('select inventory.check_price(%s)', v.price)), v.expected, v.description)
from (values
  ('19.999', 'PT400 VALIDATION_ERROR: price: must be less than 10000000000 with at most two decimals',
    'A price with three decimals is refused, not rounded.'),
  ('10000000000', 'PT400 VALIDATION_ERROR: price: must be less than 10000000000 with at most two decimals',
    'A price that the column cannot hold is refused.'),
  ('''NaN''', 'PT400 VALIDATION_ERROR: price: must be less than 10000000000 with at most two decimals',
    'A price that is not a number is refused.'),
  ('9999999999.99', 'nothing was raised', 'The highest price is accepted.'),
  ('19.900', 'nothing was raised', 'Zeros at the end are no decimals.')
) as v (price, expected, description);

select * from finish();
rollback;
