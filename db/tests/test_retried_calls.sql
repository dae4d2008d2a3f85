-- To extend a hold, buy a basket, refund a purchase and cancel a drop count once for each user and Idempotency-Key, too.
-- test_idempotency_keys.sql is about requests that make a row.
begin;
select plan(50);

select pg_temp.make_users('seller', 'ann', 'bob', 'cat');
do $$
begin
  perform pg_temp.make_drop_with(name, '{"extension_seconds": 30}') from unnest(array['one', 'two']) as name;
  perform pg_temp.hold(name, 'ann') from unnest(array['one', 'two']) as name;
  perform pg_temp.buy(name, 'bob') from unnest(array['one', 'two']) as name;
  perform api.reserve_basket(pg_temp.user_id('cat'), array[row(pg_temp.drop_id(name), null, 1)::api.basket_item], name)
  from unnest(array['one', 'two']) as name;
end
$$;

-- What a call about a drop answers: the id of what it is about and whether it is a replay, or else the refusal.
create function pg_temp.call(p_name text, p_drop text, p_user text, p_key text) returns text language plpgsql as $$
declare
  v_id uuid;
  v_is_replay boolean;
  v_detail text;
begin
  case p_name
    when 'extend' then
      select (reservation).id, replayed into v_id, v_is_replay
      from api.extend_reservation(pg_temp.hold_id(p_drop, 'ann'), pg_temp.user_id(p_user), p_key);
    when 'basket' then
      select (purchase).id, replayed into v_id, v_is_replay
      from api.purchase_basket(
        (select r.basket_id from inventory.reservations r where r.id = pg_temp.hold_id(p_drop, 'cat')),
        pg_temp.user_id(p_user), p_key);
    when 'refund' then
      select data ->> 'id', replayed into v_id, v_is_replay
      from api.refund_purchase_outcome(pg_temp.purchase_id(p_drop, 'bob'), pg_temp.user_id(p_user), p_key);
    when 'cancel' then
      select (drop).id, replayed into v_id, v_is_replay
      from api.cancel_drop(pg_temp.drop_id(p_drop), true, pg_temp.user_id(p_user), p_key);
  end case;
  return concat_ws(' ', v_id, case when v_is_replay then 'replayed' else 'done' end);
exception when others then
  get stacked diagnostics v_detail = pg_exception_detail;
  return format('%s %s: %s', sqlstate, sqlerrm, v_detail);
end
$$;

create temp table request on commit drop as
select *
from (values (1, 'extend', 'ann'), (2, 'basket', 'cat'), (3, 'refund', 'seller'), (4, 'cancel', 'seller')) as r (n, name, caller);

create temp table first on commit drop as
select n, name, caller, pg_temp.call(name, 'one', caller, name) as answer from (select * from request order by n) r;
select matches(answer, '^[0-9a-f-]{36} done$', name || ': the first request is carried out.') from first order by n;
-- A replay is a request of another transaction, so the keys are given to one.
update inventory.idempotency_keys set transaction_id = '1' where key in (select name from request);
select is(
  pg_temp.call(name, 'one', caller, name), replace(answer, 'done', 'replayed'), name || ': a repeat says that it is one.'
)
from first order by n;
select is(
  pg_temp.call(name, 'two', caller, name), pg_temp.error('IDEMPOTENCY_KEY_REUSED'), name || ': another request is refused.'
)
from first order by n;
select is(
  pg_temp.call('cancel', 'one', 'seller', 'refund'), pg_temp.error('IDEMPOTENCY_KEY_REUSED'), 'A key is of one operation.'
);
select is(
  pg_temp.refusal(format(
    'select api.cancel_drop(%L, false, %L, ''cancel'')', pg_temp.drop_id('one'), pg_temp.user_id('seller'))),
  pg_temp.error('IDEMPOTENCY_KEY_REUSED'), 'Whether to refund belongs to the request.'
);
select is(
  pg_temp.call(name, 'two', caller, 'a b'),
  pg_temp.error('VALIDATION_ERROR', 'Idempotency-Key: must be 1 to 255 visible ASCII characters'), name || ': a key has a form.')
from first order by n;
select is(pg_temp.call(name, 'two', 'nobody', 'key'), pg_temp.error('AUTH_REQUIRED'), name || ': nobody has no key.')
from first order by n;
select matches(pg_temp.call(name, 'two', caller, null), '^[0-9a-f-]{36} done$', name || ': no key is needed.')
from first order by n;
select is(
  pg_temp.call('refund', 'two', 'seller', null),
  pg_temp.error('INVALID_STATUS_CHANGE', 'A purchase that is refunded cannot be refunded.'),
  'Without a key a second refund is refused.'
);
select is(
  (select array_agg(d.name || ' ' || d.status order by d.name) from pg_temp.stored_drops() d),
  array['one cancelled', 'two cancelled'],
  'The drops are cancelled.'
);
select is((select array_agg(distinct status) from pg_temp.stored_purchases()), array['refunded'], 'All sales are refunded.');

-- A drop that is over.

select pg_temp.make_drop('over');
do $$
begin
  perform pg_temp.buy('over', 'ann', 'bob');
  perform pg_temp.hold('over', 'ann');
  perform api.update_drop(pg_temp.drop_id('over'), '{"status": "ended"}');
end
$$;
select matches(
  pg_temp.refusal(format('select api.cancel_drop(%L)', pg_temp.drop_id('over'))), '^PT409 INVALID_STATUS_CHANGE: ',
  'A drop that is over is not cancelled.'
);
select results_eq(
  $$select (drop).status, remaining, replayed from api.cancel_drop(pg_temp.drop_id('over'), true)$$,
  $$values ('ended', 0::bigint, false)$$, 'With refund its sales are refunded, and it stays over.'
);
select is(pg_temp.stock_of('over'), 10, 'The units are back, those of holds as well.');
select is(pg_temp.statuses_on('over'), array['ann CANCELLED', 'ann CONSUMED', 'bob CONSUMED'], 'A hold cannot become a sale any more.');
select is(
  (select details from api.history(pg_temp.drop_id('over')) where action = 'updated' and details ? 'held_stock'),
  '{"held_stock": {"from": 1, "to": 0}}', 'That is in the history.'
);

-- A seller's key is the seller's own. A session of PostgREST sets the role and the claims for a transaction.

create function pg_temp.as_seller(p_call text) returns text language plpgsql as $$
declare
  v_answer text;
begin
  perform set_config('request.jwt.claims', json_build_object('sub', pg_temp.user_id('seller'))::text, true);
  perform set_config('role', 'lastpair_seller', true);
  begin
    execute 'select ' || p_call;
  exception when others then
    v_answer := sqlerrm;
  end;
  perform set_config('role', 'none', true);
  perform set_config('request.jwt.claims', '', true);
  return v_answer;
end
$$;
select is(
  pg_temp.as_seller(format(v.call, v.id, pg_temp.user_id('cat'))), 'FORBIDDEN', 'A seller uses no other''s key: ' || v.call
)
from (values
  (pg_temp.drop_id('one'), 'api.cancel_drop(%L, false, %L, ''stolen'')'),
  (pg_temp.purchase_id('one', 'bob'), 'api.refund_purchase(%L, %L, ''stolen'')')
) as v (id, call);
select is_empty($$select * from inventory.idempotency_keys where key = 'stolen'$$, 'Nothing is noted for the other.');
select is(
  pg_temp.as_seller(format('api.cancel_drop(%L, false, p_idempotency_key => ''own'')', pg_temp.drop_id('one'))), null,
  'A seller need not name the seller.'
);
select results_eq(
  $$select user_id from inventory.idempotency_keys where key = 'own'$$, $$values (pg_temp.user_id('seller'))$$,
  'The key belongs to the subject of the claims.'
);

select is_empty('select * from pg_temp.findings()', 'The books balance.');

-- One key with two holds: the first purchase decides, whether both come in one call or one after the other.
select pg_temp.make_sizes('two sizes');
do $$
begin
  perform api.reserve(pg_temp.drop_id('two sizes'), pg_temp.user_id('ann'), null, 60, pg_temp.variant_id('two sizes', v))
  from unnest(array['S', 'M']) v;
end
$$;
create temp table two_holds on commit drop as
select r.id from inventory.reservations r where r.drop_id = pg_temp.drop_id('two sizes') order by r.id;
select is(
  (select array_agg(coalesce(o.code, o.status::text) order by o.n) from api.purchase_batch(array(
    select row(pg_temp.drop_id('two sizes'), pg_temp.user_id('ann'), 'one-key', h.id)::api.purchase_request
    from (select id from two_holds union all select id from two_holds) h order by h.id)) o),
  array['201', '200', 'IDEMPOTENCY_KEY_REUSED', 'IDEMPOTENCY_KEY_REUSED'], 'A key buys one of two holds, in one call.'
);
select is(pg_temp.statuses_on('two sizes'), array['ann ACTIVE', 'ann CONSUMED'], 'The other is held still.');

-- A call that names nothing says so, with a key or without.
select is(pg_temp.refusal('select ' || v.call), pg_temp.error(v.code), v.call)
from (values
  ('api.refund_purchase(null, null, ''k'')', 'PURCHASE_NOT_FOUND'),
  ('api.cancel_drop(null, false, null, ''k'')', 'DROP_NOT_FOUND'),
  ('api.send_test_webhook(null, null, ''k'')', 'WEBHOOK_ENDPOINT_NOT_FOUND'),
  ('api.rotate_webhook_secret(null, null, ''k'')', 'WEBHOOK_ENDPOINT_NOT_FOUND'),
  ('api.replay_webhook_delivery(null, null, ''k'')', 'WEBHOOK_DELIVERY_NOT_FOUND'),
  (format('api.purchase_basket(null, %L, ''k'')', pg_temp.user_id('ann')), 'BASKET_NOT_FOUND'),
  (format('api.extend_reservation(null, %L, ''k'')', pg_temp.user_id('ann')), 'RESERVATION_NOT_FOUND')
) as v (call, code);
select is(
  pg_temp.refusal(format('select api.create_drop_from_json(''null'', %L)', pg_temp.user_id('seller'))),
  pg_temp.error('VALIDATION_ERROR', 'body: must be an object'), 'A drop is made from an object.'
);

select * from finish();
rollback;
