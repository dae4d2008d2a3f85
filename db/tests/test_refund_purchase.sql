-- api.refund_purchase takes a paid purchase back and its units into stock, once: a unit given back twice would be sold twice.
begin;
select plan(17);

create function pg_temp.drop_id() returns uuid language sql stable as $$
  select d.id from inventory.drops d where d.created_by = pg_temp.user_id('seller')
$$;
create function pg_temp.stock() returns integer language sql stable as $$
  select d.available_stock from inventory.drops d where d.id = pg_temp.drop_id()
$$;

-- The purchase of each user, by his name.
create temp table bought (name text primary key, id uuid not null) on commit drop;
create function pg_temp.bought_by(p_name text) returns uuid language sql stable as $$
  select b.id from bought b where b.name = p_name
$$;

do $$
begin
  perform api.ensure_user(pg_temp.user_id(name)) from unnest(array['seller', 'ann', 'bob', 'cat', 'dan', 'eve', 'fay']) as name;
  perform api.create_drop('shoes', 10, 10, pg_temp.user_id('seller'), now() - interval '1 hour');
  perform api.reserve(pg_temp.drop_id(), pg_temp.user_id(name))
  from unnest(array['ann', 'bob', 'cat', 'dan', 'eve', 'fay']) as name;
  insert into bought
  select name, p.id
  from unnest(array['ann', 'bob', 'cat', 'dan', 'eve']) as name, api.purchase(pg_temp.drop_id(), pg_temp.user_id(name)) p;
  update inventory.purchases
  set created_at = now() - interval '2 days', updated_at = now() - interval '2 days'
  where drop_id = pg_temp.drop_id();
  update inventory.drops set updated_at = now() - interval '1 day' where id = pg_temp.drop_id();
end
$$;

create temp table refunded on commit drop as select * from api.refund_purchase(pg_temp.bought_by('ann'));

select is(
  (select array_agg(key) from refunded, json_object_keys(to_json(refunded)) as key),
  array['id', 'drop_id', 'reservation_id', 'user_id', 'qty', 'status', 'createdAt', 'updatedAt'],
  'The row has the names of the wire.'
);
select results_eq(
  $$select id, drop_id, user_id, qty, status, "createdAt", "updatedAt" from refunded$$,
  $$
    values (
      pg_temp.bought_by('ann'), pg_temp.drop_id(), pg_temp.user_id('ann'), 1, 'refunded', now() - interval '2 days', now())
  $$,
  'The purchase comes back refunded, changed now.'
);
select results_eq(
  $$
    select id, drop_id, reservation_id, user_id, qty, status, created_at, updated_at
    from inventory.purchases
    where id = pg_temp.bought_by('ann')
  $$,
  $$select * from refunded$$,
  'What comes back is what is stored.'
);
select is(pg_temp.stock(), 5, 'Its unit is back in stock.');
select is((select updated_at from inventory.drops where id = pg_temp.drop_id()), now(), 'The drop says that it changed.');
select is(
  (select count(*) from inventory.purchases where drop_id = pg_temp.drop_id() and status = 'paid'), 4::bigint,
  'Nobody else''s purchase is touched.'
);
select is(
  (select status from inventory.reservations where id = (select reservation_id from refunded)), 'CONSUMED',
  'The reservation stays CONSUMED: it is no hold again.'
);
select is(
  (select status from api.reserve(pg_temp.drop_id(), pg_temp.user_id('ann'))), 'ACTIVE', 'Who was refunded may reserve again.'
);

do $$
begin
  update inventory.purchases set qty = 3 where id = pg_temp.bought_by('bob');
  update inventory.drops set available_stock = available_stock - 2 where id = pg_temp.drop_id();
  perform api.refund_purchase(pg_temp.bought_by('bob'));
end
$$;
select is(pg_temp.stock(), 5, 'A purchase of three units gives three units back.');

-- Errors.

select throws_ok(
  $$select api.refund_purchase(pg_temp.bought_by('ann'))$$, 'PT409', 'INVALID_STATUS_CHANGE', 'A purchase is refunded once.'
);
do $$
begin
  update inventory.purchases set status = 'pending' where id = pg_temp.bought_by('cat');
  update inventory.purchases set status = 'failed' where id = pg_temp.bought_by('dan');
  update inventory.purchases set status = 'cancelled' where id = pg_temp.bought_by('eve');
end
$$;
select is(
  pg_temp.refusal(format('select api.refund_purchase(%L)', pg_temp.bought_by(v.name))),
  format('PT409 INVALID_STATUS_CHANGE: A purchase that is %s cannot be refunded.', v.status),
  format('A purchase that is %s is not paid, and the refusal says so.', v.status)
)
from (values ('ann', 'refunded'), ('cat', 'pending'), ('dan', 'failed'), ('eve', 'cancelled')) as v (name, status);
select throws_ok(
  $$select api.refund_purchase(gen_random_uuid())$$, 'PT404', 'PURCHASE_NOT_FOUND', 'A purchase that does not exist is not found.'
);
select throws_ok($$select api.refund_purchase(null)$$, 'PT404', 'PURCHASE_NOT_FOUND', 'No purchase is not found.');

-- What was paid or is pending counts as sold, so the purchases changed by hand are made good before the audit.
do $$
begin
  update inventory.drops set available_stock = available_stock + 2 where id = pg_temp.drop_id();
end
$$;
select is_empty($$select * from api.audit() a where a.drop_id = pg_temp.drop_id()$$, 'No unit was lost or made up on the way.');

select * from finish();
rollback;
