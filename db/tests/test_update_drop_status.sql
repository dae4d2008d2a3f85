-- api.update_drop moves a drop's status in the ways that are legal and no other, and keeps its times true to it.
begin;
select plan(65);

set local intervalstyle = 'postgres';

-- Times as distances from now.
create function pg_temp.times_of(p_name text) returns text language sql stable as $$
  select format('%s to %s', coalesce((d.starts_at - now())::text, 'none'), coalesce((d.ends_at - now())::text, 'none'))
  from inventory.drops d where d.id = pg_temp.drop_id(p_name)
$$;

select pg_temp.make_users('seller', 'ann', 'bob', 'cat', 'dan', 'eve', 'fay');

-- Moves of status: all of them.

create function pg_temp.move(p_from text, p_to text) returns text language plpgsql as $$
declare
  v_name text := p_from || ' to ' || p_to;
  v_id uuid := pg_temp.make_drop_in(p_from, v_name);
  v_refusal text := pg_temp.refusal_of_update(v_name, jsonb_build_object('status', p_to));
begin
  if v_refusal <> 'nothing was raised' then
    return v_refusal;
  end if;
  return (select d.status from api.get_drop(v_id) d);
end
$$;
select is(
  pg_temp.move(v.from_status, v.to_status),
  case
    when v.legal then v.to_status
    else format(
      'PT409 INVALID_STATUS_CHANGE: A drop that is %s cannot become %s.',
      case v.from_status when 'started' then 'live' else v.from_status end, v.to_status)
  end,
  format(
    'A drop that is %s %s.', case v.from_status when 'started' then 'scheduled and has started' else v.from_status end,
    case when v.legal then 'may be made ' || v.to_status else 'cannot become ' || v.to_status end)
)
from (values
  ('draft', 'draft', true),
  ('draft', 'scheduled', true),
  ('draft', 'live', true),
  ('draft', 'ended', false),
  ('draft', 'cancelled', true),
  ('scheduled', 'draft', true),
  ('scheduled', 'scheduled', true),
  ('scheduled', 'live', true),
  ('scheduled', 'ended', true),
  ('scheduled', 'cancelled', true),
  ('started', 'draft', false),
  ('started', 'scheduled', false),
  ('started', 'live', true),
  ('started', 'ended', true),
  ('started', 'cancelled', true),
  ('live', 'draft', false),
  ('live', 'scheduled', false),
  ('live', 'live', true),
  ('live', 'ended', true),
  ('live', 'cancelled', true),
  ('ended', 'draft', false),
  ('ended', 'scheduled', false),
  ('ended', 'live', false),
  ('ended', 'ended', true),
  ('ended', 'cancelled', false),
  ('cancelled', 'draft', false),
  ('cancelled', 'scheduled', false),
  ('cancelled', 'live', false),
  ('cancelled', 'ended', false),
  ('cancelled', 'cancelled', true)
) as v (from_status, to_status, legal);
select throws_ok(
  $$select api.update_drop(pg_temp.drop_id('ended to live'), '{"status": "live"}')$$, 'PT409', 'INVALID_STATUS_CHANGE',
  'What is over stays over.'
);
do $$ begin perform pg_temp.make_drop_in('scheduled', 'starts now'); end $$;
update inventory.drops set starts_at = now() where id = pg_temp.drop_id('starts now');
select throws_ok(
  $$select api.update_drop(pg_temp.drop_id('starts now'), '{"status": "draft"}')$$, 'PT409', 'INVALID_STATUS_CHANGE',
  'A scheduled drop is live from the moment it starts.'
);
update inventory.drops set starts_at = now() + interval '1 microsecond' where id = pg_temp.drop_id('starts now');
select lives_ok(
  $$select api.update_drop(pg_temp.drop_id('starts now'), '{"status": "draft"}')$$,
  'A microsecond earlier it can still be withdrawn.'
);

-- What a move does to the times.

select is(pg_temp.times_of(v.name), v.expected, v.description)
from (values
  ('draft to live', '00:00:00 to none', 'A draft that goes live starts now.'),
  ('scheduled to live', '00:00:00 to none', 'A scheduled drop that goes live starts now.'),
  ('started to live', '-01:00:00 to none', 'A drop that has started keeps its start when it goes live.'),
  ('draft to scheduled', '01:00:00 to none', 'A draft that is scheduled keeps its times.'),
  ('live to ended', '-01:00:00 to 00:00:00', 'A live drop that is ended ends now.'),
  ('started to ended', '-01:00:00 to 00:00:00', 'A drop that has started and is ended ends now.'),
  ('scheduled to ended', '01:00:00 to none', 'A drop that is ended before it starts keeps its times.'),
  ('live to cancelled', '-01:00:00 to none', 'A drop that is cancelled keeps its times.')
) as v (name, expected, description);

-- Do this to a drop in this state that also ends in so much time; the times after it, or the refusal.
create function pg_temp.times_after(p_state text, p_ends_in interval, p_changes jsonb) returns text language plpgsql as $$
declare
  v_id uuid := pg_temp.make_drop_in(p_state, 'times');
  v_times text;
begin
  update inventory.drops set ends_at = now() + p_ends_in where id = v_id;
  v_times := pg_temp.refusal_of_update('times', p_changes);
  if v_times = 'nothing was raised' then
    v_times := pg_temp.times_of('times');
  end if;
  update inventory.drops set name = 'done' where id = v_id;
  return v_times;
end
$$;
select is(pg_temp.times_after(v.state, v.ends_in, v.changes), v.expected, v.description)
from (values
  ('live', '2 hours'::interval, '{"status": "ended"}'::jsonb, '-01:00:00 to 00:00:00',
    'A drop that is ended before its end ends now.'),
  ('live', '-1 minute', '{"status": "ended"}', '-01:00:00 to -00:01:00', 'A drop whose end has passed keeps it.'),
  ('live', '2 hours', jsonb_build_object('status', 'ended', 'ends_at', now() - interval '5 minutes'), '-01:00:00 to -00:05:00',
    'An end that is given with the move is kept.'),
  ('live', '2 hours', '{"status": "ended", "ends_at": null}', '-01:00:00 to none',
    'An end that is cleared with the move stays cleared.'),
  ('ended', '-1 minute', '{"name": "times", "status": "ended"}', '-01:00:00 to -00:01:00',
    'Ending what has ended does not move its end.'),
  ('ended', null, '{"name": "times"}', '-01:00:00 to none', 'A drop that has ended without an end is not given one later.'),
  ('live', '2 hours', '{"ends_at": null}', '-01:00:00 to none', 'null clears an end.'),
  ('draft', '2 hours', '{"starts_at": null}', 'none to 02:00:00', 'null clears a start.'),
  ('draft', '2 hours', '{"starts_at": null, "ends_at": null}', 'none to none', 'null clears both.'),
  ('draft', '2 hours', jsonb_build_object('starts_at', now() + interval '90 minutes'), '01:30:00 to 02:00:00',
    'A start can be put off.'),
  ('scheduled', '2 hours', jsonb_build_object('starts_at', now() - interval '1 minute'), '-00:01:00 to 02:00:00',
    'A scheduled drop can be made to have started.'),
  ('live', '2 hours', jsonb_build_object('starts_at', now() - interval '2 hours'), '-02:00:00 to 02:00:00',
    'A live drop can be made to have started earlier.'),
  ('live', '2 hours', jsonb_build_object('starts_at', now()), '00:00:00 to 02:00:00', 'A live drop can be made to start now.'),
  ('live', '2 hours', jsonb_build_object('starts_at', now() + interval '1 microsecond'),
    'PT400 VALIDATION_ERROR: starts_at: a live drop has started', 'A live drop cannot be made to start later.'),
  ('started', '2 hours', jsonb_build_object('starts_at', now() + interval '1 minute'),
    'PT400 VALIDATION_ERROR: starts_at: a live drop has started', 'Neither can a scheduled drop that has started.'),
  ('draft', '2 hours', jsonb_build_object('status', 'live', 'starts_at', now() + interval '1 minute'),
    'PT400 VALIDATION_ERROR: starts_at: a live drop has started', 'A draft cannot go live with a start in the future.'),
  ('draft', '2 hours', jsonb_build_object('status', 'live', 'starts_at', now() - interval '1 minute'), '-00:01:00 to 02:00:00',
    'A start in the past that is given with going live is kept.'),
  ('live', '2 hours', '{"starts_at": null}', 'PT400 VALIDATION_ERROR: starts_at: a scheduled or live drop needs one',
    'The start of a live drop cannot be cleared.'),
  ('scheduled', '2 hours', '{"starts_at": null}', 'PT400 VALIDATION_ERROR: starts_at: a scheduled or live drop needs one',
    'The start of a scheduled drop cannot be cleared.'),
  ('draft', '2 hours', '{"starts_at": null, "status": "scheduled"}',
    'PT400 VALIDATION_ERROR: starts_at: a scheduled or live drop needs one', 'A drop cannot be scheduled without a start.'),
  ('draft', null, '{"starts_at": null, "status": "live"}',
    'PT400 VALIDATION_ERROR: starts_at: a scheduled or live drop needs one',
    'A start that is cleared while going live is refused.'),
  ('live', '2 hours', jsonb_build_object('ends_at', now() - interval '1 hour'),
    'PT400 VALIDATION_ERROR: ends_at: must be later than starts_at', 'A drop cannot end as it starts.'),
  ('live', '2 hours', '{"name": "times"}', '-01:00:00 to 02:00:00', 'A change of something else leaves the times alone.')
) as v (state, ends_in, changes, expected, description);

select is_empty(
  $$
    select a.* from api.audit() a join inventory.drops d on d.id = a.drop_id where d.created_by = pg_temp.user_id('seller')
  $$,
  'No unit was lost or made up on the way.'
);

select * from finish();
rollback;
