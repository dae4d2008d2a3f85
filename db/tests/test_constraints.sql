-- The constraints refuse every row that would break a rule, whoever writes it: they are the last line against overselling.
begin;
select plan(87);

-- SQLSTATE and name of the constraint that a statement violates; names, because messages are translated. Whatever the statement
-- did is undone, so that no case depends on another.
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
  perform api.ensure_user(pg_temp.user_id(name)) from unnest(array['seller', 'ann', 'bob']) as name;
  perform api.create_drop(name, 10, 5, pg_temp.user_id('seller'), now() - interval '1 hour', now() + interval '1 hour')
  from unnest(array['shoes', 'tickets']) as name;
  perform api.reserve(pg_temp.drop_id('shoes'), pg_temp.user_id(name), 'hold-' || name) from unnest(array['ann', 'bob']) as name;
  perform api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'), 'sale');
end
$$;

-- Checks. Each case changes a row that is there.

select is(
  pg_temp.violation(format('update inventory.users set username = %L where id = pg_temp.user_id(''ann'')', v.username)),
  v.expected, v.description
)
from (values
  ('', '23514 users_username_check', 'An empty username is refused.'),
  ('  ', '23514 users_username_check', 'A username of spaces is refused.'),
  (repeat('x', 201), '23514 users_username_check', 'A username of 201 characters is refused.'),
  (E'ann\nbob', '23514 users_username_check', 'A username with a line feed is refused.'),
  (E'ann\u0001', '23514 users_username_check', 'A username with the first control character is refused.'),
  (E'ann\u001f', '23514 users_username_check', 'A username with the last of the low control characters is refused.'),
  (E'ann\u007f', '23514 users_username_check', 'A username with DEL is refused.'),
  (E'ann\u009f', '23514 users_username_check', 'A username with the last of the high control characters is refused.'),
  (repeat('é', 200), 'accepted', 'A username of 200 characters is accepted, however many bytes they take.'),
  (' a ~', 'accepted', 'A username with visible characters and spaces is accepted.')
) as v (username, expected, description);

select is(
  pg_temp.violation(format('update inventory.drops set %s where id = pg_temp.drop_id(''tickets'')', v.changes)),
  v.expected, v.description
)
from (values
  ('name = ''''', '23514 drops_name_check', 'A drop without a name is refused.'),
  ('name = ''  ''', '23514 drops_name_check', 'A drop with a name of spaces is refused.'),
  ('name = repeat(''x'', 201)', '23514 drops_name_check', 'A drop name of 201 characters is refused.'),
  ('name = E''a\tb''', '23514 drops_name_check', 'A drop name with a tab is refused.'),
  ('name = E''a\u0080b''', '23514 drops_name_check', 'A drop name with a high control character is refused.'),
  ('name = repeat(''x'', 200)', 'accepted', 'A drop name of 200 characters is accepted.'),
  ('price = -0.01', '23514 drops_price_check', 'A negative price is refused.'),
  ('price = 0', 'accepted', 'A drop may be free.'),
  ('total_stock = 0, available_stock = 0', '23514 drops_total_stock_check', 'A drop of no units is refused.'),
  ('available_stock = -1', '23514 drops_available_stock_check', 'Stock below zero is refused.'),
  ('available_stock = 6', '23514 drops_available_stock_check', 'More available than there is in total is refused.'),
  ('total_stock = 4', '23514 drops_available_stock_check', 'A total below what is available is refused.'),
  ('available_stock = 0', 'accepted', 'A drop may be sold out.'),
  ('status = ''sold''', '23514 drops_status_check', 'A status that is none is refused.'),
  ('status = ''LIVE''', '23514 drops_status_check', 'A status in capitals is refused.'),
  ('status = ''scheduled'', starts_at = null', '23514 drops_starts_at_check', 'A scheduled drop needs a start.'),
  ('status = ''live'', starts_at = null', '23514 drops_starts_at_check', 'A live drop needs a start.'),
  ('status = ''draft'', starts_at = null', 'accepted', 'A draft needs no start.'),
  ('status = ''ended'', starts_at = null', 'accepted', 'An ended drop needs no start.'),
  ('status = ''cancelled'', starts_at = null', 'accepted', 'A cancelled drop needs no start.'),
  ('ends_at = starts_at', '23514 drops_ends_at_check', 'A drop that ends as it starts is refused.'),
  ('ends_at = starts_at - interval ''1 second''', '23514 drops_ends_at_check', 'A drop that ends before it starts is refused.'),
  ('ends_at = starts_at + interval ''1 microsecond''', 'accepted', 'A drop may be as short as it likes.'),
  ('ends_at = null', 'accepted', 'A drop needs no end.'),
  ('ends_at = ''infinity''', '23514 drops_ends_at_finite_check', 'A drop that ends at infinity is refused.'),
  ('starts_at = ''-infinity''', '23514 drops_starts_at_finite_check', 'A drop that has always been on is refused.')
) as v (changes, expected, description);

select is(
  pg_temp.violation(format(
    'update inventory.reservations set %s where drop_id = pg_temp.drop_id(''shoes'') and user_id = pg_temp.user_id(''bob'')',
    v.changes)),
  v.expected, v.description
)
from (values
  ('status = ''PENDING''', '23514 reservations_status_check', 'A reservation status that is none is refused.'),
  ('status = ''active''', '23514 reservations_status_check', 'A reservation status in small letters is refused.'),
  ('status = ''EXPIRED''', 'accepted', 'A reservation may be EXPIRED.'),
  ('status = ''CANCELLED''', 'accepted', 'A reservation may be CANCELLED.'),
  ('status = ''CONSUMED''', 'accepted', 'A reservation may be CONSUMED.'),
  ('idempotency_key = ''''', '23514 reservations_idempotency_key_check', 'A reservation with an empty key is refused.'),
  ('idempotency_key = ''a b''', '23514 reservations_idempotency_key_check', 'A reservation with a space in its key is refused.'),
  ('idempotency_key = E''a\n''', '23514 reservations_idempotency_key_check',
    'A reservation with a line feed in its key is refused.'),
  ('idempotency_key = ''é''', '23514 reservations_idempotency_key_check', 'A reservation with a key beyond ASCII is refused.'),
  ('idempotency_key = repeat(''k'', 256)', '23514 reservations_idempotency_key_check',
    'A reservation with a key of 256 characters is refused.'),
  ('idempotency_key = repeat(''~'', 255)', 'accepted', 'A reservation key of 255 characters is accepted.'),
  ('idempotency_key = ''!''', 'accepted', 'A reservation key of one character is accepted.'),
  ('idempotency_key = null', 'accepted', 'A reservation needs no key.')
) as v (changes, expected, description);

select is(
  pg_temp.violation(format('update inventory.purchases set %s where drop_id = pg_temp.drop_id(''shoes'')', v.changes)),
  v.expected, v.description
)
from (values
  ('qty = 0', '23514 purchases_qty_check', 'A purchase of nothing is refused.'),
  ('qty = -1', '23514 purchases_qty_check', 'A negative purchase is refused.'),
  ('status = ''shipped''', '23514 purchases_status_check', 'A purchase status that is none is refused.'),
  ('status = ''PAID''', '23514 purchases_status_check', 'A purchase status in capitals is refused.'),
  ('status = ''pending''', 'accepted', 'A purchase may be pending.'),
  ('status = ''failed''', 'accepted', 'A purchase may have failed.'),
  ('status = ''cancelled''', 'accepted', 'A purchase may be cancelled.'),
  ('status = ''refunded''', 'accepted', 'A purchase may be refunded.'),
  ('idempotency_key = ''''', '23514 purchases_idempotency_key_check', 'A purchase with an empty key is refused.'),
  ('idempotency_key = ''a b''', '23514 purchases_idempotency_key_check', 'A purchase with a space in its key is refused.'),
  ('idempotency_key = E''a\u007f''', '23514 purchases_idempotency_key_check', 'A purchase with DEL in its key is refused.'),
  ('idempotency_key = repeat(''k'', 256)', '23514 purchases_idempotency_key_check',
    'A purchase with a key of 256 characters is refused.'),
  ('idempotency_key = repeat(''~'', 255)', 'accepted', 'A purchase key of 255 characters is accepted.')
) as v (changes, expected, description);

-- Uniqueness. Each case inserts one row beside those that are there.

create temp table hold on commit drop as
select r.* from inventory.reservations r where r.drop_id = pg_temp.drop_id('shoes') and r.user_id = pg_temp.user_id('bob');
create temp table sale on commit drop as
select p.* from inventory.purchases p where p.drop_id = pg_temp.drop_id('shoes');

create function pg_temp.another_hold(p_drop text, p_user text, p_status text, p_key text) returns text language sql as $$
  select pg_temp.violation(format(
    'insert into inventory.reservations (drop_id, user_id, status, expires_at, idempotency_key) values (%L, %L, %L, now(), %L)',
    pg_temp.drop_id(p_drop), pg_temp.user_id(p_user), p_status, p_key))
$$;

create function pg_temp.another_sale(p_drop text, p_user text, p_reservation_id uuid, p_key text) returns text language sql as $$
  select pg_temp.violation(format(
    'insert into inventory.purchases (drop_id, user_id, reservation_id, idempotency_key, status)
     values (%L, %L, %L, %L, ''paid'')',
    pg_temp.drop_id(p_drop), pg_temp.user_id(p_user), p_reservation_id, p_key))
$$;

select is(
  pg_temp.violation($$
    insert into inventory.users (username) select username from inventory.users where id = pg_temp.user_id('ann')
  $$),
  '23505 users_username_key', 'Two users cannot share a username.'
);
select is(
  pg_temp.another_hold('shoes', 'bob', 'ACTIVE', null), '23505 reservations_active_key',
  'A user holds at most one unit of a drop.'
);
select is(pg_temp.another_hold('shoes', 'ann', 'ACTIVE', null), 'accepted', 'Whoever bought a unit may hold another.');
select is(pg_temp.another_hold('tickets', 'bob', 'ACTIVE', null), 'accepted', 'A user may hold a unit of each of several drops.');
select is(pg_temp.another_hold('shoes', 'bob', 'CANCELLED', null), 'accepted', 'Past reservations do not count against a user.');
select is(
  pg_temp.another_hold('shoes', 'ann', 'CANCELLED', 'hold-ann'), '23505 reservations_idempotency_key',
  'A reservation key is used once by a user on a drop, whatever became of the first.'
);
select is(pg_temp.another_hold('shoes', 'ann', 'ACTIVE', 'hold-bob'), 'accepted', 'Two users may use the same reservation key.');
select is(
  pg_temp.another_hold('tickets', 'bob', 'ACTIVE', 'hold-bob'), 'accepted',
  'A user may use a reservation key again on another drop.'
);

select is(
  pg_temp.another_sale('shoes', 'bob', (select reservation_id from sale), null), '23505 purchases_reservation_key',
  'A reservation is purchased once.'
);
select is(pg_temp.another_sale('shoes', 'bob', (select id from hold), null), 'accepted', 'Another reservation may be purchased.');
select is(
  pg_temp.another_sale('shoes', 'ann', (select id from hold), 'sale'), '23505 purchases_idempotency_key',
  'A purchase key is used once by a user on a drop.'
);
select is(
  pg_temp.another_sale('shoes', 'bob', (select id from hold), 'sale'), 'accepted', 'Two users may use the same purchase key.'
);

-- References and what must be there.

select is(
  pg_temp.violation(format('update inventory.%s', v.change)), v.expected, v.description
)
from (values
  ('drops set created_by = pg_temp.user_id(''nobody'') where id = pg_temp.drop_id(''shoes'')', '23503 drops_created_by_fkey',
    'A drop needs a seller who exists.'),
  ('reservations set user_id = pg_temp.user_id(''nobody'') where id = (select id from hold)', '23503 reservations_user_id_fkey',
    'A reservation needs a user who exists.'),
  ('reservations set drop_id = gen_random_uuid() where id = (select id from hold)', '23503 reservations_drop_id_fkey',
    'A reservation needs a drop that exists.'),
  ('purchases set user_id = pg_temp.user_id(''nobody'') where id = (select id from sale)', '23503 purchases_user_id_fkey',
    'A purchase needs a user who exists.'),
  ('purchases set reservation_id = gen_random_uuid() where id = (select id from sale)', '23503 purchases_reservation_fkey',
    'A purchase needs a reservation that exists.'),
  ('purchases set drop_id = pg_temp.drop_id(''tickets'') where id = (select id from sale)', '23503 purchases_reservation_fkey',
    'A purchase is of the drop that its reservation is of.'),
  ('reservations set expires_at = null where id = (select id from hold)', '23502 expires_at', 'A reservation needs an end.')
) as v (change, expected, description);
select is(
  pg_temp.violation($$delete from inventory.drops where id = pg_temp.drop_id('shoes')$$), '23503 reservations_drop_id_fkey',
  'A drop that was reserved cannot be deleted.'
);
select is(
  pg_temp.violation($$delete from inventory.reservations where id = (select reservation_id from sale)$$),
  '23503 purchases_reservation_fkey', 'A reservation that was purchased cannot be deleted.'
);

-- Checks speak to callers: the comment is what inventory.refuse_constraint says.

select set_eq(
  $$
    select c.conname::text
    from pg_constraint c
    where c.contype = 'c' and c.conrelid in (
      'inventory.users'::regclass, 'inventory.drops'::regclass, 'inventory.reservations'::regclass,
      'inventory.purchases'::regclass)
  $$,
  array[
    'users_username_check', 'drops_name_check', 'drops_price_check', 'drops_total_stock_check', 'drops_available_stock_check',
    'drops_status_check', 'drops_starts_at_check', 'drops_ends_at_check', 'drops_starts_at_finite_check',
    'drops_ends_at_finite_check', 'reservations_status_check',
    'reservations_idempotency_key_check', 'purchases_qty_check', 'purchases_status_check', 'purchases_idempotency_key_check'
  ],
  'The four tables have exactly the checks that are tried here.'
);
select is_empty(
  $$
    select c.conname
    from pg_constraint c
    where c.connamespace = 'inventory'::regnamespace and c.contype = 'c' and obj_description(c.oid, 'pg_constraint') is null
      and c.conname not in (
        'drops_available_stock_check', 'reservations_status_check', 'purchases_qty_check', 'purchases_status_check')
  $$,
  'Every check that a caller can violate has the sentence he is told.'
);
select is_empty(
  $$
    select c.conname, obj_description(c.oid, 'pg_constraint')
    from pg_constraint c
    where c.connamespace = 'inventory'::regnamespace and c.contype = 'c'
      and obj_description(c.oid, 'pg_constraint') !~ '^[A-Za-z_-]+: \S'
  $$,
  'Each of those sentences begins with the name of the field.'
);
select is_empty(
  $$
    select c.conname
    from pg_constraint c
    where c.connamespace = 'inventory'::regnamespace and not c.convalidated
  $$,
  'Every constraint holds for old rows, too.'
);

select * from finish();
rollback;
