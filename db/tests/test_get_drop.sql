-- api.get_drop shows one drop in any status: a link to a drop keeps working after it has ended.
begin;
select plan(8);

select pg_temp.make_users('seller', 'ann');
select pg_temp.make_drop('draft', 5, null);
select pg_temp.make_drop('scheduled', 5, '1 hour');
select pg_temp.make_drop(name, 5, '-1 hour', '1 hour', name) from unnest(array['live', 'ended', 'cancelled']) as name;
select pg_temp.hold('live', 'ann');

select results_eq(
  $$select * from api.get_drop(pg_temp.drop_id('live'))$$,
  $$
    values (
      pg_temp.drop_id('live'), 'live', 10.00, 'USD', 5, 4, '{}'::api.variant_row[], now() - interval '1 hour',
      now() + interval '1 hour', 'live', null::timestamptz, null::integer, null::integer, 0, null::integer, 1,
      pg_temp.user_id('seller'), now(), now(), null)
  $$,
  'It is the drop as it is now, in one row.'
);
select results_eq(
  format('select name, status from api.get_drop(pg_temp.drop_id(%L))', status), format('values (%L, %1$L)', status),
  format('A drop that is %s is found.', status)
)
from unnest(array['draft', 'scheduled', 'live', 'ended', 'cancelled']) as status;
select is(pg_temp.refusal(format('select api.get_drop(%L)', id)), pg_temp.error('DROP_NOT_FOUND'), 'An unknown id is not found.')
from unnest(array[gen_random_uuid(), null]) as id;

select * from finish();
rollback;
