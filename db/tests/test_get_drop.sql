-- api.get_drop shows one drop whatever its status: a link to a drop keeps working after it has ended.
begin;
select plan(9);

do $$
begin
  perform api.ensure_user(pg_temp.user_id(name)) from unnest(array['seller', 'ann']) as name;
  perform api.create_drop('draft', 10, 5, pg_temp.user_id('seller'));
  perform api.create_drop('scheduled', 10, 5, pg_temp.user_id('seller'), now() + interval '1 hour');
  perform api.create_drop(name, 10, 5, pg_temp.user_id('seller'), now() - interval '1 hour', now() + interval '1 hour')
  from unnest(array['live', 'ended', 'cancelled']) as name;
  perform api.update_drop(pg_temp.drop_id(status), jsonb_build_object('status', status))
  from unnest(array['ended', 'cancelled']) as status;
  perform api.reserve(pg_temp.drop_id('live'), pg_temp.user_id('ann'));
end
$$;

select is(
  (select array_agg(key) from api.get_drop(pg_temp.drop_id('live')) d, json_object_keys(to_json(d)) as key),
  array[
    'id', 'name', 'price', 'total_stock', 'available_stock', 'starts_at', 'ends_at', 'status', 'created_by', 'createdAt',
  'updatedAt'
  ],
  'The row has the names of the wire.'
);
select results_eq(
  $$select * from api.get_drop(pg_temp.drop_id('live'))$$,
  $$
    values (
      pg_temp.drop_id('live'), 'live', 10.00, 5, 4, now() - interval '1 hour', now() + interval '1 hour', 'live',
      pg_temp.user_id('seller'), now(), now())
  $$,
  'It is the drop as it is now, in one row.'
);
select results_eq(
  format('select name, status from api.get_drop(pg_temp.drop_id(%L))', v.status), format('values (%L, %L)', v.status, v.status),
  format('A drop that is %s is found.', v.status)
)
from unnest(array['draft', 'scheduled', 'live', 'ended', 'cancelled']) as v (status);

select throws_ok(
  $$select api.get_drop(gen_random_uuid())$$, 'PT404', 'DROP_NOT_FOUND', 'A drop that does not exist is not found.'
);
select throws_ok($$select api.get_drop(null)$$, 'PT404', 'DROP_NOT_FOUND', 'No id is the id of no drop.');

select * from finish();
rollback;
