-- api.errors defines every refusal once, and inventory.refuse raises exactly what is defined: clients branch on these codes.
-- Other tests compare a refusal with pg_temp.error(code), so this is where codes, statuses and sentences are pinned.
begin;
select plan(7);

select bag_eq(
  'select * from api.errors()',
  $$values
    ('VALIDATION_ERROR', 400, 'A value is not acceptable; the message names the field and the reason.'),
    ('AUTH_REQUIRED', 401, 'No user has this id. Identify yourself as an existing user.'),
    ('TICKET_INVALID', 401, 'The ticket of this stream is forged or too old. Get a new one: POST /stream-tickets.'),
    ('FORBIDDEN', 403, 'You may not do this.'),
    ('DROP_NOT_FOUND', 404, 'There is no drop with this id.'),
    ('RESERVATION_NOT_FOUND', 404, 'You have no reservation with this id.'),
    ('VARIANT_NOT_FOUND', 404, 'This drop has no variant with this id.'),
    ('BASKET_NOT_FOUND', 404, 'You have no basket with this id.'),
    ('PURCHASE_NOT_FOUND', 404, 'There is no purchase with this id.'),
    ('PAYMENT_NOT_FOUND', 404, 'There is no payment with this id.'),
    ('PROVIDER_CALL_NOT_FOUND', 404, 'There is no call to a payment provider with this id.'),
    ('WEBHOOK_ENDPOINT_NOT_FOUND', 404, 'There is no webhook endpoint with this id.'),
    ('WEBHOOK_DELIVERY_NOT_FOUND', 404, 'There is no delivery with this id. It may have been pruned.'),
    ('WEBHOOK_ENDPOINT_INACTIVE', 409, 'This webhook endpoint is not active, so nothing is sent to it. Activate it first.'),
    ('TOO_MANY_WEBHOOK_ENDPOINTS', 409, 'There are 20 webhook endpoints already. Remove one first.'),
    ('DROP_NOT_ACTIVE', 409,
      'This drop is not on sale now: it has not started, is paused, has ended or was cancelled. See its status and times.'),
    ('OUT_OF_STOCK', 409, 'Every unit of this drop is held or sold. A unit comes back when a hold expires or is cancelled.'),
    ('ALREADY_RESERVED', 409, 'You have reserved this already. Purchase or cancel that reservation first.'),
    ('LIMIT_EXCEEDED', 409, 'You would have more units of this drop than one person may have. See its limit_per_user.'),
    ('RESERVED_TOO_SOON', 409, 'You let a hold of this drop go, and may not hold units again yet.'),
    ('SEVERAL_RESERVATIONS', 409, 'You hold several variants of this drop. Say which reservation: reservation_id.'),
    ('NO_ACTIVE_RESERVATION', 409, 'You have no active reservation that this would buy. Reserve first.'),
    ('RESERVATION_EXPIRED', 409, 'Your reservation ran out and its units went back to stock. Reserve again.'),
    ('RESERVATION_NOT_ACTIVE', 409, 'This reservation was consumed, so it cannot be cancelled.'),
    ('EXTENSION_NOT_ALLOWED', 409, 'Holds of this drop cannot be extended.'),
    ('BASKET_REFUSED', 409, 'Not every item of the basket can be held, so none is. See what was refused, and why.'),
    ('BASKET_NOT_ACTIVE', 409, 'Not every hold of this basket is ACTIVE any more.'),
    ('BASKET_SPANS_NODES', 409,
      'The drops of this basket are kept in several databases, and a basket cannot span them. Reserve them one by one.'),
    ('SEVERAL_CURRENCIES', 409, 'One payment is in one currency, and the items of this basket have several. Buy them one by one.'),
    ('INVALID_STATUS_CHANGE', 409, 'This change of status is not allowed.'),
    ('VARIANT_IN_USE', 409, 'Units of this variant were held or sold, so it cannot go.'),
    ('STOCK_BELOW_COMMITTED', 409, 'total_stock may not be less than the units held and sold.'),
    ('USERNAME_TAKEN', 409, 'Another user has this username. Choose another.'),
    ('DROP_CHANGED', 412, 'The drop was changed since you read it. Read it again, then decide.'),
    ('IDEMPOTENCY_KEY_REUSED', 422, 'This Idempotency-Key came with another request before. Use a new one for a new request.')$$,
  'The codes, their HTTP statuses and their sentences are those of the contract, each once.'
);
-- A code that is not defined would reach the caller as an internal error. The types of events look like codes.
create temp table named on commit drop as
select p.oid::regprocedure as function, code[1] as code
from pg_proc p
cross join lateral regexp_matches(p.prosrc, '''([A-Z]+(?:_[A-Z]+)+)''', 'g') as named (code)
where p.pronamespace in ('inventory'::regnamespace, 'api'::regnamespace) and p.oid <> 'inventory.errors()'::regprocedure;
select is_empty(
  $$
    select * from named
    where code not in (select e.code from api.errors() e)
      and code not in (
        'DROP_CREATED', 'DROP_UPDATED', 'DROP_REMOVED', 'STOCK_UPDATED', 'PURCHASE_COMPLETED', 'ACTIVITY_UPDATED', 'PAYMENT_UPDATED',
        'RESYNC_REQUIRED')
  $$,
  'Functions name no code that is not defined.'
);
select isnt_empty(
  $$select from named where code = 'DROP_NOT_FOUND'$$, 'Functions do name codes, so that the check above has something to find.'
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
select is(pg_temp.refusal(format('select inventory.%s', v.call)), v.expected, v.description)
from (values
  ('refuse(''OUT_OF_STOCK'', ''None left, 100 % sold.'')', 'PT409 OUT_OF_STOCK: None left, 100 % sold.',
    'A more precise sentence takes the place of the general one.'),
  ('refuse_constraint(''reservations_status_check'')',
    'P0001 constraint reservations_status_check has no comment to refuse with: ',
    'A constraint without a comment is an internal error.')
) as v (call, expected, description);
select throws_ok(
  $$select inventory.refuse('NO_SUCH_CODE')$$, 'P0002', null, 'A code that is not defined cannot be raised by mistake.'
);

select * from finish();
rollback;
