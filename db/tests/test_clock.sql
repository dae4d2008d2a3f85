-- Reads and changes go by the clock: with every poller asleep, a drop shows what a reserve would find, and a change of a drop has
-- one answer before the sweep and after it.
begin;
select plan(50);

select pg_temp.make_users('seller', 'ann', 'bob', 'cat');

-- Stock.

select pg_temp.make_drop('shoes', 3);
select pg_temp.make_sizes('shirts');
select pg_temp.hold('shoes', 'ann', 'bob', 'cat');
do $$
begin
  perform pg_temp.reserving('shirts', 'ann', 2, 'S', 'key');
  perform pg_temp.reserving('shirts', 'ann', 3, 'M');
  perform pg_temp.reserving('shirts', 'bob', 1, 'M');
end
$$;
select pg_temp.let_run_out('shoes', 'ann');
select pg_temp.let_run_out('shoes', 'bob', now() + interval '1 microsecond');
select pg_temp.let_run_out('shirts', 'ann', now() - interval '1 hour');
create temp table before on commit drop as
select d.id, d.ctid as place from inventory.drops d where d.created_by = pg_temp.user_id('seller');

select is(
  (select available_stock || ' ' || (activity_feed ->> 'held_stock') from api.list_drops(p_limit => 1000) where id = pg_temp.drop_id(v.name)),
  v.expected, format('The list of drops counts what ran out of the %s as stock, and not as held.', v.name)
)
from (values ('shoes', '1 2'), ('shirts', '6 1')) as v (name, expected);
select is(
  (select (d ->> 'available_stock') || ' ' || (d -> 'activity_feed' ->> 'held_stock')
    from api.snapshot(array[pg_temp.drop_id(v.name)]) s, json_array_elements(s.data -> 'drops') d),
  v.expected, format('So does the snapshot, of the %s.', v.name)
)
from (values ('shoes', '1 2'), ('shirts', '6 1')) as v (name, expected);
select is(
  (select available_stock from api.get_drop(pg_temp.drop_id('shoes'))), 1, 'So does a drop that is read alone.'
);
select is(
  pg_temp.variants_of('shirts'), array['S 2 of 2 at 10.00', 'M 4 of 5 at 10.00'], 'Each variant has what ran out of it.'
);
select is_empty(
  $$select d.name from inventory.drops d join before b on b.id = d.id where b.place <> d.ctid$$, 'No read has written anything.'
);
select results_eq(
  $$select status, replayed from api.reserve(
    pg_temp.drop_id('shirts'), pg_temp.user_id('ann'), 'key', p_variant_id => pg_temp.variant_id('shirts', 'S'), p_qty => 2)$$,
  $$values ('EXPIRED', true)$$, 'A repeated key shows that the hold has run out.'
);
select is_empty($$select from api.my_reservations(pg_temp.user_id('ann'))$$, 'A user is shown no hold that has run out.');
do $$ begin perform pg_temp.reserving('shirts', 'cat', 4, 'M'); end $$;
select is(
  pg_temp.variants_of('shirts'), array['S 2 of 2 at 10.00', 'M 0 of 5 at 10.00'],
  'A reserve finds what was shown, and what it did not take is shown as before.'
);
do $$ begin perform api.expire_reservations(100000); end $$;
select is(
  pg_temp.variants_of('shirts'), array['S 2 of 2 at 10.00', 'M 0 of 5 at 10.00'], 'After the sweep the same is shown.'
);
select is(
  (select available_stock from api.get_drop(pg_temp.drop_id('shoes'))), 1, 'Of a drop without variants, too.'
);

-- Where the search for due holds begins.

-- When the search for due holds of a drop begins, as a distance from now.
create function pg_temp.search_from(p_drop text) returns interval language sql stable as $$
  select d.nothing_due_before - now()
  from inventory.drops d
  where d.id = pg_temp.drop_id(p_drop) and isfinite(d.nothing_due_before)
$$;

select pg_temp.make_drop('search');
select is((select nothing_due_before from inventory.drops where id = pg_temp.drop_id('search')), 'infinity',
  'A new drop is not searched, because it has no holds.');
select pg_temp.hold('search', 'ann');
select is(pg_temp.search_from('search'), interval '1 minute', 'The search begins when the first hold ends.');
select pg_temp.let_run_out('search', 'ann', now() - interval '1 day');
select is(pg_temp.search_from('search'), interval '-1 day', 'A hold that ends earlier by hand moves it back.');
select pg_temp.hold('search', 'bob');
select is(pg_temp.statuses_on('search'), array['ann EXPIRED', 'bob ACTIVE'], 'So that hold is found and taken back.');
select pg_temp.hold('search', 'cat');
select is(pg_temp.search_from('search'), interval '0', 'When nothing is due any more, the beginning is now again.');
update inventory.reservations set status = 'ACTIVE' where id = pg_temp.hold_id('search', 'ann') and status = 'EXPIRED';
update inventory.drops set available_stock = available_stock - 1 where id = pg_temp.drop_id('search');
select is(
  pg_temp.search_from('search'), interval '-1 day', 'A hold that ran out and is made ACTIVE again by hand moves it back, too.'
);
select is((select count(*) from api.expire_reservations() where drop_id = pg_temp.drop_id('search')), 1::bigint,
  'The sweep finds it.');

select pg_temp.make_drop('early');
select pg_temp.hold('early', 'ann');
update inventory.reservations set expires_at = now() + interval '10 s' where id = pg_temp.hold_id('early', 'ann');
select is(pg_temp.search_from('early'), interval '10 s', 'A hold that is to end earlier moves the beginning before it is due.');
update inventory.reservations set expires_at = now() + interval '10 minutes' where id = pg_temp.hold_id('early', 'ann');
select is(pg_temp.search_from('early'), interval '10 s', 'One that ends later does not move it.');
insert into inventory.reservations (drop_id, user_id, expires_at)
values (pg_temp.drop_id('early'), pg_temp.user_id('bob'), now() + interval '5 s');
update inventory.drops set available_stock = available_stock - 1 where id = pg_temp.drop_id('early');
select is(pg_temp.search_from('early'), interval '5 s', 'A hold that is made by hand moves it.');
select pg_temp.make_drop('other');
update inventory.reservations set drop_id = pg_temp.drop_id('other') where id = pg_temp.hold_id('early', 'bob');
update inventory.drops set available_stock = available_stock + case id when pg_temp.drop_id('early') then 1 else -1 end
where id in (pg_temp.drop_id('early'), pg_temp.drop_id('other'));
select is(pg_temp.search_from('other'), interval '5 s', 'A hold that is moved to another drop moves that of the other.');

insert into inventory.reservations (drop_id, user_id, expires_at) values (md5('after')::uuid, pg_temp.user_id('ann'), now());
insert into inventory.drops (id, name, price, total_stock, available_stock, starts_at, status, created_by)
values (md5('after')::uuid, 'after', 1, 1, 0, now(), 'live', pg_temp.user_id('seller'));
select is((select available_stock from api.get_drop(pg_temp.drop_id('after'))), 1, 'A hold that is due may come before its drop.');
select pg_temp.hold('after', 'bob');
select is(pg_temp.statuses_on('after'), array['ann EXPIRED', 'bob ACTIVE'], 'It is found and taken back.');

-- Status.

select pg_temp.make_drop(v.name, 5, v.starts_in, v.ends_in, v.status)
from (values
  ('due to start', interval '-1 second', null::interval, 'scheduled'), ('due to end', '-1 hour', interval '0', 'live'),
  ('missed', '-1 hour', '-1 second', 'scheduled'), ('to end', '-1 hour', '1 microsecond', 'live')
) as v (name, starts_in, ends_in, status);
select is((select status from api.get_drop(pg_temp.drop_id(v.name))), v.status,
  format('A drop that is %s is %s.', v.name, v.status))
from (values ('due to start', 'live'), ('due to end', 'ended'), ('missed', 'ended'), ('to end', 'live')) as v (name, status);
select is(
  (select d ->> 'status' from api.snapshot(array[pg_temp.drop_id('due to end')]) s, json_array_elements(s.data -> 'drops') d),
  'ended', 'The snapshot says so, too.'
);

-- The same changes before the sweep and after it. "swept" is the drop as the sweep leaves it.

create function pg_temp.answer(p_swept boolean, p_changes jsonb, p_ends_in interval default '0')
returns text language plpgsql as $$
declare
  v_name text := concat_ws(' ', 'over', p_swept, p_changes, p_ends_in);
  v_refusal text;
begin
  perform pg_temp.make_drop(v_name, 5, '-1 hour', p_ends_in, 'live');
  if p_swept then
    perform api.advance_drops();
  end if;
  v_refusal := pg_temp.refusal_of_update(v_name, p_changes);
  return case
    when v_refusal <> 'nothing was raised' then v_refusal
    when pg_temp.reserving(v_name, 'ann') = 'nothing was raised' then 'sells'
    else 'is over'
  end;
end
$$;

select is(
  pg_temp.answer(swept, replace(v.changes, 'LATER', (now() + interval '1 hour')::text)::jsonb), v.expected,
  format('%s, %s the sweep.', v.description, case when swept then 'after' else 'before' end)
)
from unnest(array[false, true]) as swept
cross join (values
  ('{"ends_at": "LATER"}', 'PT409 INVALID_STATUS_CHANGE: This drop is over and stays over; its ends_at cannot be extended.',
    'The end of a drop that is over is not put off'),
  ('{"ends_at": null}', 'PT409 INVALID_STATUS_CHANGE: This drop is over and stays over; its ends_at cannot be extended.',
    'Nor is it taken away'),
  ('{"ends_at": "LATER", "status": "live"}', 'PT409 INVALID_STATUS_CHANGE: A drop that is ended cannot become live.',
    'Nor does the drop go live again'),
  ('{"status": "cancelled"}', 'PT409 INVALID_STATUS_CHANGE: A drop that is ended cannot become cancelled.',
    'Nor is it cancelled'),
  ('{"name": "over and renamed"}', 'is over', 'It may be renamed'),
  ('{"status": "ended"}', 'is over', 'It may be ended again')
) as v (changes, expected, description);
select is(
  pg_temp.answer(false, jsonb_build_object('ends_at', now() + interval '1 hour'), '1 microsecond'), 'sells',
  'Up to the last microsecond the end is put off, and the drop sells.'
);
select is(
  pg_temp.answer(false, jsonb_build_object('ends_at', now() - interval '1 minute'), '1 hour'), 'is over',
    'An end that is past ends it.'
);

-- RESERVATION_EXPIRED however late, and what else a purchase is told.

select pg_temp.make_drop('late');
select pg_temp.hold('late', 'ann', 'bob');
select pg_temp.let_run_out('late', 'ann', now() - interval '30 days');
select is(pg_temp.purchase_all('late', 'ann'), array['RESERVATION_EXPIRED'], 'A purchase of a hold that ran out is told so,');
select is(pg_temp.purchase_all('late', 'ann'), array['RESERVATION_EXPIRED'], 'and told so again, after it was taken back.');
do $$ begin perform api.cancel_reservation(pg_temp.hold_id('late', 'bob'), pg_temp.user_id('bob')); end $$;
select is(
  pg_temp.purchase_all('late', 'bob', 'cat'), array['NO_ACTIVE_RESERVATION', 'NO_ACTIVE_RESERVATION'],
  'A user who cancelled, or never held a unit, has none.'
);
select pg_temp.buy('late', 'ann');
select is(pg_temp.purchase_all('late', 'ann'), array['NO_ACTIVE_RESERVATION'],
  'After a purchase it is the purchase that counts.');
do $$ begin perform api.update_drop(pg_temp.drop_id('late'), '{"status": "cancelled"}'); end $$;
select is(
  pg_temp.purchase_all('late', 'ann', 'bob', 'cat'), array['DROP_NOT_ACTIVE', 'DROP_NOT_ACTIVE', 'DROP_NOT_ACTIVE'],
  'A drop that was cancelled says that it is not on sale.'
);
select is_empty('select * from pg_temp.findings()', 'No unit was lost or made up on the way.');

select * from finish();
rollback;
