-- The rows of the public functions carry the field names of the wire: a client reads them as JSON without any mapping.
begin;
select plan(18);

-- The columns of a function's rows, in order.
create function pg_temp.columns_of(p_function text) returns text language sql stable as $$
  select coalesce(
    (select string_agg(a.attname, ' ' order by a.attnum) from pg_attribute a
      where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped),
    (select string_agg(c.name, ' ' order by c.n) from unnest(p.proargnames, p.proargmodes) with ordinality as c (name, mode, n)
      where c.mode = 't'))
  from pg_proc p
  join pg_type t on t.oid = p.prorettype
  where p.oid = ('api.' || p_function)::regproc
$$;

select is(pg_temp.columns_of(v.function), v.columns, format('The rows of api.%s have the names of the wire.', v.function))
from (
  select unnest(array['create_user', 'ensure_user']), 'id username createdAt updatedAt'
  union all
  select
    unnest(array['create_drop', 'get_drop', 'advance_drops', 'update_drop']),
    'id name price currency total_stock available_stock variants starts_at ends_at status paused_at limit_per_user hold_seconds '
      'rehold_after_seconds extension_seconds revision created_by createdAt updatedAt image_url'
  union all
  select
    'list_drops',
    'id name price currency total_stock available_stock variants starts_at ends_at status paused_at limit_per_user hold_seconds '
      'rehold_after_seconds extension_seconds revision created_by createdAt updatedAt image_url activity_feed'
  union all
  select
    unnest(array['my_reservations', 'cancel_reservation', 'expire_reservations']),
    'id drop_id variant_id user_id basket_id qty unit_price currency amount status expires_at extended_at createdAt updatedAt'
  union all
  select
    'reserve',
    'id drop_id variant_id user_id basket_id qty unit_price currency amount status expires_at extended_at createdAt updatedAt '
      'replayed'
  union all
  select
    unnest(array['my_purchases', 'refund_purchase']),
    'id drop_id variant_id reservation_id user_id qty unit_price currency amount status refunded_amount refunded_at createdAt '
      'updatedAt refunded_qty payment_id'
  union all
  select
    'purchase',
    'id drop_id variant_id reservation_id user_id qty unit_price currency amount status refunded_amount refunded_at createdAt '
      'updatedAt refunded_qty payment_id replayed'
  union all
  select 'audit', 'drop_id invariant expected found'
  union all
  select 'errors', 'code status message'
) as v (function, columns);

select is(
  (select string_agg(a.attname, ' ' order by a.attnum) from pg_attribute a where a.attrelid = 'api.purchaser'::regclass),
  'userId username qty createdAt', 'A purchaser in a feed has the names of the wire.'
);

select is(
  (select string_agg(a.attname, ' ' order by a.attnum) from pg_attribute a where a.attrelid = 'api.variant_row'::regclass),
  'id name price total_stock available_stock', 'So does a variant of a drop.'
);

select * from finish();
rollback;
