-- The constraints refuse every row that would break a rule, whatever writes it: they are the last line against overselling.
begin;
select plan(148);

-- SQLSTATE and name of the constraint that a statement violates; names, because messages are translated. Its work is undone, so
-- that no case depends on another.
create function pg_temp.violation(p_sql text) returns text language plpgsql as $$
declare
  v_constraint_name text;
  v_column_name text;
begin
  execute p_sql;
  raise sqlstate 'UNDO0';
exception
  when sqlstate 'UNDO0' then
    return 'accepted';
  when integrity_constraint_violation then
    get stacked diagnostics v_constraint_name = constraint_name, v_column_name = column_name;
    return concat_ws(' ', sqlstate, nullif(v_constraint_name, ''), nullif(v_column_name, ''));
end
$$;

do $$
begin
  perform pg_temp.make_users('seller', 'ann', 'bob');
  perform api.create_drop(
    'sizes', 10, null, pg_temp.user_id('seller'), now(),
    p_variants => '[{"name": "M", "total_stock": 5}, {"name": "L", "total_stock": 5}]');
  perform pg_temp.make_drop(name, 5, '-1 hour', '1 hour') from unnest(array['shoes', 'tickets']) as name;
  perform api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id(name), 'hold-' || name) from unnest(array['ann', 'bob']) as name;
  perform api.reserve(pg_temp.drop_id('sizes'), pg_temp.user_id('bob'), p_variant_id => pg_temp.variant_id('sizes', 'L'));
  perform api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'sale');
end
$$;
create temp table hold on commit drop as
select r.* from inventory.reservations r where r.id = pg_temp.hold_id('shoes', 'bob');
create temp table sale on commit drop as select p.* from inventory.purchases p where p.drop_id = pg_temp.drop_id('shoes');

-- Checks and references. Each case changes one row: ann, the tickets, size M, the hold or the sale.

select is(
  pg_temp.violation(format('update inventory.%s set %s where id = %L', v.relation, v.change, case v.relation
    when 'users' then pg_temp.user_id('ann')
    when 'drops' then pg_temp.drop_id('tickets')
    when 'variants' then (select v.id from inventory.variants v where v.drop_id = pg_temp.drop_id('sizes') and v.name = 'M')
    when 'reservations' then (select id from hold)
    when 'purchases' then (select id from sale)
  end)),
  coalesce(v.violated, 'accepted'), v.description
)
from (values
  ('users', 'username = ''''', '23514 users_username_check', 'An empty username is refused.'),
  ('users', 'username = ''  ''', '23514 users_username_check', 'A username of spaces is refused.'),
  ('users', 'username = E'' \u2003''', '23514 users_username_check', 'A username of blanks of any kind is refused.'),
  ('users', 'username = repeat(''x'', 201)', '23514 users_username_check', 'A username of 201 characters is refused.'),
  ('users', 'username = E''ann\nbob''', '23514 users_username_check', 'A username with a line feed is refused.'),
  ('users', 'username = E''ann\u0001''', '23514 users_username_check', 'So is one with the first control character,'),
  ('users', 'username = E''ann\u001f''', '23514 users_username_check', 'with the last of the low control characters,'),
  ('users', 'username = E''ann\u007f''', '23514 users_username_check', 'with DEL,'),
  ('users', 'username = E''ann\u009f''', '23514 users_username_check', 'and with the last of the high control characters.'),
  ('users', 'username = repeat(''é'', 200)', null, 'A username of 200 characters is accepted, however many bytes they take.'),
  ('users', 'username = '' a ~''', null, 'A username with visible characters and spaces is accepted.'),
  ('drops', 'name = ''''', '23514 drops_name_check', 'A drop without a name is refused.'),
  ('drops', 'name = ''  ''', '23514 drops_name_check', 'A drop with a name of spaces is refused.'),
  ('drops', 'name = repeat(''x'', 201)', '23514 drops_name_check', 'A drop name of 201 characters is refused.'),
  ('drops', 'name = E''a\tb''', '23514 drops_name_check', 'A drop name with a tab is refused.'),
  ('drops', 'name = E''a\u0080b''', '23514 drops_name_check', 'A drop name with a high control character is refused.'),
  ('drops', 'name = repeat(''x'', 200)', null, 'A drop name of 200 characters is accepted.'),
  ('drops', 'price = -0.01', '23514 drops_price_check', 'A negative price is refused.'),
  ('drops', 'price = 10000000000', '23514 drops_price_range_check', 'A price of ten thousand million is refused.'),
  ('drops', 'price = 9999999999.999', null, 'A price just below it is accepted.'),
  ('drops', 'currency = ''usd''', '23514 drops_currency_check', 'A currency in small letters is refused.'),
  ('drops', 'currency = ''EURO''', '23514 drops_currency_check', 'So is one of four letters.'),
  ('drops', 'currency = null', '23502 currency', 'A drop needs a currency.'),
  ('drops', 'limit_per_user = 0', '23514 drops_limit_per_user_check', 'A limit of nothing is refused.'),
  ('drops', 'limit_per_user = null', null, 'A drop needs no limit.'),
  ('drops', 'hold_seconds = 0', '23514 drops_hold_seconds_check', 'A hold of no time is refused.'),
  ('drops', 'hold_seconds = 86401', '23514 drops_hold_seconds_check', 'A hold of more than a day is refused.'),
  ('drops', 'hold_seconds = 86400', null, 'A hold may last a day.'),
  ('drops', 'rehold_after_seconds = -1', '23514 drops_rehold_after_seconds_check', 'A negative wait is refused.'),
  ('drops', 'rehold_after_seconds = 86401', '23514 drops_rehold_after_seconds_check', 'A wait of more than a day is refused.'),
  ('drops', 'rehold_after_seconds = 86400', null, 'A wait may last a day.'),
  ('drops', 'extension_seconds = 0', '23514 drops_extension_seconds_check', 'An extension of no time is refused.'),
  ('drops', 'extension_seconds = 86401', '23514 drops_extension_seconds_check', 'So is one of more than a day.'),
  ('drops', 'extension_seconds = null', null, 'A drop needs no extension.'),
  ('drops', 'image_url = ''https://cdn.example.com:8443/a/b%20c.jpg?w=9&h=(1)#x''', null, 'A picture may have any https URL.'),
  ('drops', 'image_url = ''/shoe.jpg''', null, 'A picture may be a path on this host.'),
  ('drops', 'image_url = ''http://localhost:4000/shoe.jpg''', null, 'In development it may be on this machine.'),
  ('drops', 'image_url = ''''', '23514 drops_image_url_check', 'An empty address is refused.'),
  ('drops', 'image_url = ''shoe.jpg''', '23514 drops_image_url_check', 'So is a relative one.'),
  ('drops', 'image_url = ''http://example.com/shoe.jpg''', '23514 drops_image_url_check', 'So is http to another machine.'),
  ('drops', 'image_url = ''http://localhost.example.com/''', '23514 drops_image_url_check', 'So is a host that begins like it.'),
  ('drops', 'image_url = ''//example.com/shoe.jpg''', '23514 drops_image_url_check', 'So is a path that is another host.'),
  ('drops', 'image_url = ''/\example.com/shoe.jpg''', '23514 drops_image_url_check', 'So is one with a backslash.'),
  ('drops', 'image_url = ''https://user@example.com/x''', '23514 drops_image_url_check', 'So is a URL with a user.'),
  ('drops', 'image_url = ''javascript:alert(1)''', '23514 drops_image_url_check', 'So is a script.'),
  ('drops', 'image_url = ''data:image/png;base64,AA''', '23514 drops_image_url_check', 'So is a picture inside the address.'),
  ('drops', 'image_url = E''/shoe.jpg\n''', '23514 drops_image_url_check', 'So is a line break.'),
  ('drops', 'image_url = ''https://example.com/"onload=''', '23514 drops_image_url_check', 'So is a quotation mark.'),
  ('drops', 'image_url = ''https://example.com/é''', '23514 drops_image_url_check', 'So is what must be percent-encoded.'),
  ('drops', 'image_url = ''/'' || repeat(''a'', 1999)', null, '2,000 characters are taken.'),
  ('drops', 'image_url = ''/'' || repeat(''a'', 2000)', '23514 drops_image_url_check', 'One more is refused.'),
  ('variants', 'name = '' ''', '23514 variants_name_check', 'A variant with a name of spaces is refused.'),
  ('variants', 'name = repeat(''x'', 201)', '23514 variants_name_check', 'A variant name of 201 characters is refused.'),
  ('variants', 'name = E''a\u009f''', '23514 variants_name_check', 'A variant name with a control character is refused.'),
  ('variants', 'name = ''L''', '23505 variants_name_key', 'Two variants of a drop cannot share a name.'),
  ('variants', 'name = ''l''', null, 'Names that differ in case are two names.'),
  ('variants', 'price = -0.01', '23514 variants_price_check', 'A negative price of a variant is refused.'),
  ('variants', 'price = 10000000000', '23514 variants_price_range_check', 'So is one of ten thousand million.'),
  ('variants', 'price = null', null, 'A variant needs no price of its own.'),
  ('variants', 'total_stock = 0, available_stock = 0', '23514 variants_total_stock_check', 'A variant of no units is refused.'),
  ('variants', 'available_stock = -1', '23514 variants_available_stock_check', 'Stock of a variant below zero is refused.'),
  ('variants', 'available_stock = 6', '23514 variants_available_stock_check', 'More of it available than in total is refused.'),
  ('variants', 'drop_id = gen_random_uuid()', '23503 variants_drop_id_fkey', 'A variant needs a drop that exists.'),
  ('reservations', 'qty = 0', '23514 reservations_qty_check', 'A hold of nothing is refused.'),
  ('reservations', 'qty = -1', '23514 reservations_qty_check', 'A negative hold is refused.'),
  ('drops', 'price = 0', null, 'A drop may be free.'),
  ('drops', 'total_stock = 0, available_stock = 0', '23514 drops_total_stock_check', 'A drop of no units is refused.'),
  ('drops', 'available_stock = -1', '23514 drops_available_stock_check', 'Stock below zero is refused.'),
  ('drops', 'available_stock = 6', '23514 drops_available_stock_check', 'More available than in total is refused.'),
  ('drops', 'total_stock = 4', '23514 drops_available_stock_check', 'A total below what is available is refused.'),
  ('drops', 'available_stock = 0', null, 'A drop may be sold out.'),
  ('drops', 'status = ''sold''', '23514 drops_status_check', 'An unknown status of a drop is refused.'),
  ('drops', 'status = ''LIVE''', '23514 drops_status_check', 'A status of a drop in capitals is refused.'),
  ('drops', 'status = ''scheduled'', starts_at = null', '23514 drops_starts_at_check', 'A scheduled drop needs a start.'),
  ('drops', 'status = ''live'', starts_at = null', '23514 drops_starts_at_check', 'A live drop needs a start.'),
  ('drops', 'status = ''draft'', starts_at = null', null, 'A draft needs no start.'),
  ('drops', 'status = ''ended'', starts_at = null', null, 'An ended drop needs no start.'),
  ('drops', 'status = ''cancelled'', starts_at = null', null, 'A cancelled drop needs no start.'),
  ('drops', 'ends_at = starts_at', '23514 drops_ends_at_check', 'A drop that ends as it starts is refused.'),
  ('drops', 'ends_at = starts_at - interval ''1 second''', '23514 drops_ends_at_check', 'So is one that ends before it starts.'),
  ('drops', 'ends_at = starts_at + interval ''1 microsecond''', null, 'A drop may last a microsecond.'),
  ('drops', 'ends_at = null', null, 'A drop needs no end.'),
  ('drops', 'ends_at = ''infinity''', '23514 drops_ends_at_finite_check', 'A drop that ends at infinity is refused.'),
  ('drops', 'starts_at = ''-infinity''', '23514 drops_starts_at_finite_check', 'A drop that has always been on is refused.'),
  ('drops', 'created_by = pg_temp.user_id(''nobody'')', '23503 drops_created_by_fkey', 'A drop needs a seller who exists.'),
  ('reservations', 'status = ''PENDING''', '23514 reservations_status_check', 'An unknown status of a hold is refused.'),
  ('reservations', 'status = ''active''', '23514 reservations_status_check', 'One in small letters is refused.'),
  ('reservations', 'status = ''EXPIRED''', null, 'A reservation may be EXPIRED.'),
  ('reservations', 'status = ''CANCELLED''', null, 'A reservation may be CANCELLED.'),
  ('reservations', 'status = ''CONSUMED''', null, 'A reservation may be CONSUMED.'),
  ('reservations', 'expires_at = null', '23502 expires_at', 'A reservation needs an end.'),
  ('reservations', 'idempotency_key = ''''', '23514 reservations_idempotency_key_check', 'An empty key is refused.'),
  ('reservations', 'idempotency_key = ''a b''', '23514 reservations_idempotency_key_check', 'A key with a space is refused.'),
  ('reservations', 'idempotency_key = E''a\n''', '23514 reservations_idempotency_key_check', 'One with a line feed is refused.'),
  ('reservations', 'idempotency_key = ''é''', '23514 reservations_idempotency_key_check', 'A key beyond ASCII is refused.'),
  ('reservations', 'idempotency_key = repeat(''k'', 256)', '23514 reservations_idempotency_key_check',
    'A key of 256 characters is refused.'),
  ('reservations', 'idempotency_key = repeat(''~'', 255)', null, 'A key of 255 characters is accepted.'),
  ('reservations', 'idempotency_key = ''!''', null, 'A key of one character is accepted.'),
  ('reservations', 'idempotency_key = null', null, 'A reservation needs no key.'),
  ('reservations', 'user_id = pg_temp.user_id(''nobody'')', '23503 reservations_user_id',
    'A reservation needs a user who exists.'),
  ('purchases', 'qty = 0', '23514 purchases_qty_check', 'A purchase of nothing is refused.'),
  ('purchases', 'qty = -1', '23514 purchases_qty_check', 'A negative purchase is refused.'),
  ('purchases', 'refunded_qty = -1', '23514 purchases_refunded_qty_check', 'No units less than none were refunded.'),
  ('purchases', 'refunded_qty = qty + 1', '23514 purchases_refunded_qty_check', 'No more units were refunded than were bought.'),
  ('purchases', 'status = ''shipped''', '23514 purchases_status_check', 'An unknown status of a purchase is refused.'),
  ('purchases', 'status = ''PAID''', '23514 purchases_status_check', 'A purchase status in capitals is refused.'),
  ('purchases', 'status = ''pending''', null, 'A purchase may be pending.'),
  ('purchases', 'status = ''failed''', null, 'A purchase may have failed.'),
  ('purchases', 'status = ''cancelled''', null, 'A purchase may be cancelled.'),
  ('purchases', 'status = ''refunded''', null, 'A purchase may be refunded.'),
  ('purchases', 'idempotency_key = ''''', '23514 purchases_idempotency_key_check', 'A purchase''s empty key is refused.'),
  ('purchases', 'idempotency_key = ''a b''', '23514 purchases_idempotency_key_check', 'One with a space is refused.'),
  ('purchases', 'idempotency_key = E''a\u007f''', '23514 purchases_idempotency_key_check', 'One with DEL is refused.'),
  ('purchases', 'idempotency_key = repeat(''k'', 256)', '23514 purchases_idempotency_key_check',
    'A purchase''s key of 256 characters is refused.'),
  ('purchases', 'idempotency_key = repeat(''~'', 255)', null, 'A purchase''s key of 255 characters is accepted.'),
  ('purchases', 'reservation_id = gen_random_uuid()', '23503 purchases_reservation_id',
    'A purchase needs a reservation that exists.'),
  ('purchases', 'drop_id = pg_temp.drop_id(''tickets'')', '23503 purchases_reservation_id',
    'A purchase is of the drop that its reservation is of.')
) as v (relation, change, violated, description);

-- Uniqueness: each case inserts one row beside those that are there. Deletes.

select is(pg_temp.violation('insert into inventory.' || v.row), coalesce(v.violated, 'accepted'), v.description)
from (
  select
    format('reservations (drop_id, user_id, status, expires_at, idempotency_key) values (%L, %L, %L, now(), %L)',
      pg_temp.drop_id(h.drop_name), pg_temp.user_id(h.user_name), h.status, h.key),
    h.violated, h.description
  from (values
    ('shoes', 'bob', 'ACTIVE', null, '23505 reservations_active_key', 'A user holds at most one unit of a drop.'),
    ('shoes', 'ann', 'ACTIVE', null, null, 'A user who bought a unit may hold another.'),
    ('tickets', 'bob', 'ACTIVE', null, null, 'A user may hold a unit of each of several drops.'),
    ('shoes', 'bob', 'CANCELLED', null, null, 'Past reservations do not count against a user.'),
    ('shoes', 'nobody', 'ACTIVE', null, '23503 reservations_user_id', 'A hold is of a user who exists.'),
    ('shoes', 'nobody', 'EXPIRED', null, '23503 reservations_user_id', 'So is a past one.'),
    ('shoes', 'ann', 'CANCELLED', 'hold-ann', '23505 reservations_idempotency_key',
      'A reservation key is used once by a user on a drop, whatever became of the first.'),
    ('shoes', 'ann', 'ACTIVE', 'hold-bob', null, 'Two users may use the same reservation key.'),
    ('tickets', 'bob', 'ACTIVE', 'hold-bob', null, 'A user may use a reservation key again on another drop.')
  ) as h (drop_name, user_name, status, key, violated, description)
  union all
  select
    format('purchases (drop_id, user_id, reservation_id, idempotency_key, status) values (%L, %L, %L, %L, ''paid'')',
      pg_temp.drop_id('shoes'), pg_temp.user_id(s.user_name), s.reservation_id, s.key),
    s.violated, s.description
  from (values
    ('bob', (select reservation_id from sale), null, '23505 purchases_reservation_key', 'A reservation is purchased once.'),
    ('bob', (select id from hold), null, null, 'Another reservation may be purchased.'),
    ('ann', (select id from hold), 'sale', '23505 purchases_idempotency_key', 'A purchase key is used once by a user on a drop.'),
    ('bob', (select id from hold), 'sale', null, 'Two users may use the same purchase key.'),
    ('bob', gen_random_uuid(), null, '23503 purchases_reservation_id', 'A purchase is of a reservation that exists.'),
    ('bob', pg_temp.hold_id('sizes', 'bob'), null, '23503 purchases_reservation_id', 'It is of the drop that its reservation is of.')
  ) as s (user_name, reservation_id, key, violated, description)
  union all
  select
    'users (username) select username from inventory.users where id = pg_temp.user_id(''ann'')', '23505 users_username_key',
    'Two users cannot share a username.'
) as v (row, violated, description);
select is(pg_temp.violation(format('delete from inventory.%s where id = %L', v.relation, v.id)), v.violated, v.description)
from (values
  ('drops', pg_temp.drop_id('shoes'), '23503', 'A drop that was reserved cannot be deleted.'),
  ('reservations', (select reservation_id from sale), '23503 purchases_reservation_id',
    'A reservation that was purchased cannot be deleted.'),
  ('users', pg_temp.user_id('ann'), '23503', 'A user who holds or bought something cannot be deleted.')
) as v (relation, id, violated, description);
select is(pg_temp.violation(v.statement), v.violated, v.description)
from (values
  ('update inventory.users set id = gen_random_uuid() where id = pg_temp.user_id(''ann'')', '23503', 'A user keeps the id.'),
  ('update inventory.reservations set id = gen_random_uuid() where id = (select reservation_id from sale)',
    '23503 purchases_reservation_id', 'A reservation that was purchased keeps its id.'),
  ('update inventory.reservations set drop_id = pg_temp.drop_id(''tickets'') where id = (select reservation_id from sale)',
    '23503 purchases_reservation_id', 'It stays with its drop.'),
  ('update inventory.reservations set id = gen_random_uuid() where id = (select id from hold)', 'accepted',
    'One that was not purchased may get another id.'),
  ('truncate inventory.users, inventory.drops, inventory.variants, inventory.baskets', '23503', 'Users are not emptied alone.'),
  ('truncate inventory.users, inventory.drops, inventory.variants, inventory.baskets, inventory.reservations', '23503',
    'Reservations are not emptied without the purchases.'),
  ('truncate inventory.users, inventory.drops, inventory.variants, inventory.baskets, inventory.reservations, inventory.purchases',
    'accepted', 'They are emptied together with the reservations.'),
  ('do $do$ begin '
    || 'perform api.reserve(pg_temp.drop_id(''tickets''), pg_temp.user_id(''ann'')); '
    || 'insert into inventory.reservations (drop_id, user_id, expires_at) '
    || 'values (pg_temp.drop_id(''tickets''), pg_temp.user_id(''nobody''), now()); end $do$',
    '23503 reservations_user_id', 'A hold by hand after a reserve is looked at, too.')
) as v (statement, violated, description);

-- Checks speak to callers: the comment is what inventory.refuse_constraint says.

select set_eq(
  $$
    select c.conname::text
    from pg_constraint c
    where c.contype = 'c' and c.conrelid in (
      'inventory.users'::regclass, 'inventory.drops'::regclass, 'inventory.variants'::regclass,
      'inventory.reservations'::regclass, 'inventory.purchases'::regclass)
    union all
    select c.conname
    from pg_attribute a
    join pg_constraint c on c.contypid = a.atttypid and c.contype = 'c'
    where a.attrelid = 'inventory.drops'::regclass
  $$,
  array[
    'users_username_check', 'drops_name_check', 'drops_price_check', 'drops_total_stock_check', 'drops_available_stock_check',
    'drops_status_check', 'drops_starts_at_check', 'drops_ends_at_check', 'drops_starts_at_finite_check',
    'drops_ends_at_finite_check', 'drops_price_range_check', 'drops_currency_check', 'drops_limit_per_user_check',
    'drops_hold_seconds_check', 'drops_rehold_after_seconds_check', 'drops_extension_seconds_check', 'drops_image_url_check',
    'variants_name_check',
    'variants_price_check', 'variants_price_range_check', 'variants_total_stock_check', 'variants_available_stock_check',
    'reservations_status_check', 'reservations_qty_check',
    'reservations_idempotency_key_check', 'purchases_qty_check', 'purchases_refunded_qty_check', 'purchases_status_check',
    'purchases_idempotency_key_check'
  ],
  'The five tables and the domains of their columns have exactly the checks that are tried here.'
);
select is_empty(
  $$
    select c.conname, obj_description(c.oid, 'pg_constraint')
    from pg_constraint c
    where c.connamespace = 'inventory'::regnamespace and c.contype = 'c'
      and coalesce(obj_description(c.oid, 'pg_constraint') !~ '^[A-Za-z_.-]+: \S', c.conname not in (
        'drops_available_stock_check', 'variants_available_stock_check',
        'reservations_status_check', 'purchases_qty_check', 'purchases_refunded_qty_check', 'purchases_status_check',
        'payments_amount_check', 'payments_refunded_amount_check', 'payments_status_check', 'payment_events_outcome_check',
        'payment_events_problem_check', 'provider_calls_action_check'))
  $$,
  'Every check that a caller can violate has the sentence for that caller, and each sentence begins with the name of the field.'
);
select is_empty(
  $$
    select c.conname
    from pg_constraint c
    where c.connamespace = 'inventory'::regnamespace and not c.convalidated
  $$,
  'Every constraint holds for old rows, too.'
);
select is_empty(
  $$
    select c.conname
    from pg_constraint c
    where c.conrelid in ('inventory.reservations'::regclass, 'inventory.purchases'::regclass, 'inventory.baskets'::regclass)
      and pg_get_constraintdef(c.oid) ~ '\{[0-9]'
  $$,
  'No rule of what is held or sold counts in a regular expression, because that takes 50 times as long.'
);

select * from finish();
rollback;
