-- api.list_drops with a status: by the clock, the newest start first, a drop without a start before all, in pages.
begin;
select plan(9);

select pg_temp.make_users('seller');
select pg_temp.make_drop(v.name, 9, v.starts_in, v.ends_in, v.status)
from (values
  ('live', interval '-3 hours', null::interval, 'live'),
  ('live, ended', '-2 hours', '0', 'live'),
  ('started', '-1 hour', null, 'scheduled'),
  ('to start', '1 hour', null, 'scheduled'),
  ('draft 1', '-1 hour', null, 'draft'),
  ('draft 2', null, null, 'draft'),
  ('draft 3', null, null, 'draft'),
  ('ended', '-1 hour', '1 hour', 'ended'),
  ('cancelled', '-1 hour', '1 hour', 'cancelled')
) as v (name, starts_in, ends_in, status);

create function pg_temp.listed(p_status text) returns text[] language sql stable as $$
  select array_agg(l.name order by l.n)
  from rows from (api.list_drops(p_status, 1000)) with ordinality as l (
    id, name, price, currency, total_stock, available_stock, variants, starts_at, ends_at, status, paused_at, limit_per_user,
    hold_seconds, rehold_after_seconds, extension_seconds, revision, created_by, created, updated, image_url, feed, n)
  where l.created_by = pg_temp.user_id('seller') and l.status = p_status
$$;

select is(pg_temp.listed(v.status), v.expected, v.status || ' drops are listed.')
from (values
  ('live', array['started', 'live']), ('scheduled', array['to start']), ('ended', array['ended', 'live, ended']),
  ('cancelled', array['cancelled'])
) as v (status, expected);
select is((pg_temp.listed('draft'))[3], 'draft 1', 'A draft with a start comes after those without one.');

-- All pages of the drafts.
create function pg_temp.paged() returns uuid[] language plpgsql as $$
declare
  v_ids uuid[] := '{}';
  v_id uuid;
begin
  loop
    select l.id into v_id from api.list_drops('draft', 1, v_ids[cardinality(v_ids)]) l;
    exit when not found;
    v_ids := v_ids || v_id;
  end loop;
  return v_ids;
end
$$;
select is(pg_temp.paged(), array(select id from api.list_drops('draft', 1000)), 'Pages of one drop make up the list.');

select is(
  pg_temp.refusal(format('select api.list_drops(%s)', v.arguments)), pg_temp.error('VALIDATION_ERROR', v.sentence), v.description)
from (values
  ('''over''', 'status: must be draft, scheduled, live, ended or cancelled', 'A status that is none is refused.'),
  (format('p_after => %L', gen_random_uuid()), 'cursor: is not of this list; begin again without one', 'So is no drop''s id.'),
  (format('p_after => %L', pg_temp.drop_id('draft 1')), 'cursor: is not of this list; begin again without one',
    'A draft''s id tells those who do not ask for drafts nothing.')
) as v (arguments, sentence, description);

select * from finish();
rollback;
