-- What becomes of a payment is told to its buyer alone, once a transaction; everybody hears of a purchase only when it is paid.
begin;
select plan(14);

select pg_temp.make_users('seller', 'ann', 'bob', 'cat');
select pg_temp.make_drop('shoes', 5);
select pg_temp.hold('shoes', 'ann', 'bob', 'cat');
select api.set_payment_provider('stripe', 600);

-- The event of a payment as pg_temp.announced shows it.
create function pg_temp.payment_updated(p_user text, p_status text, p_refunded text default '0', p_more text default '')
returns text language sql as $$
  select format(
    'PAYMENT_UPDATED {"dropId":"shoes","payment":{"id":"%s","amount":10.00,"currency":"USD","status":"%s","refunded_amount":%s,'
      '"expires_at":"%s"%s}}',
    y.id, p_status, p_refunded, case when y.expires_at = now() then 'now' else (to_json(y.expires_at at time zone 'UTC') #>> '{}') || '+00:00' end, p_more)
  from inventory.payments y where y.id = pg_temp.payment_id('shoes', p_user)
$$;

-- For whom the events of the last statement were.
create function pg_temp.told() returns text[] language sql as $$
  select array_agg(coalesce(substr(u.username, 7), 'all') order by e.id)
  from (select * from inventory.events e order by e.id desc limit 1) e
  left join inventory.users u on u.id = e.user_id
$$;
create function pg_temp.squeezed(p_events text[]) returns text[] language sql as $$
  select coalesce(array_agg(case when e like 'PAYMENT%' then regexp_replace(e, '(?<=[,:{]) | (?=[:,])', '', 'g') else e end order by n), '{}')
  from unnest(p_events) with ordinality as x (e, n)
$$;

select is(
  pg_temp.squeezed(pg_temp.announced($$select api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('ann'))$$)),
  array[pg_temp.payment_updated('ann', 'pending')], 'A pending purchase is told to its buyer only.'
);
select is(pg_temp.told(), array['ann'], 'It is a private event.');
select is(
  pg_temp.squeezed(pg_temp.announced(format(
    $$select api.finish_provider_call(%L, 'pi_1', 'secret', 'https://pay.example/1')$$,
    (select id from inventory.provider_calls where payment_id = pg_temp.payment_id('shoes', 'ann'))))),
  array[pg_temp.payment_updated('ann', 'pending', p_more => ',"client_secret":"secret","url":"https://pay.example/1"')],
  'The buyer is told what to pay with.'
);
select is(
  pg_temp.squeezed(pg_temp.announced($$select pg_temp.tell_of('shoes', 'ann', 'failed')$$)),
  array[pg_temp.payment_updated('ann', 'failed', p_more => ',"client_secret":"secret","url":"https://pay.example/1"')],
  'So the buyer is if it fails, and may try again.'
);
select is(pg_temp.announced($$select pg_temp.tell_of('shoes', 'ann', 'failed')$$), '{}', 'What changes nothing is not told.');
select is(
  pg_temp.squeezed(pg_temp.announced($$select pg_temp.tell_of('shoes', 'ann', 'paid')$$)),
  array[pg_temp.payment_updated('ann', 'paid'),
    'PURCHASE_COMPLETED {"dropId":"shoes","username":"pgtap ann","qty":1,"purchasedAt":"now"}',
    'ACTIVITY_UPDATED {"dropId":"shoes","latestPurchasers":[{"userId":"ann","username":"pgtap ann","qty":1,"createdAt":"now"}]}'],
  'Once it is paid, everybody hears of the purchase.'
);
select is(
  pg_temp.squeezed(pg_temp.announced($$select api.refund_purchase(pg_temp.purchase_id('shoes', 'ann'))$$)),
  array[pg_temp.payment_updated('ann', 'refunded', '10.00'), pg_temp.stock_updated('shoes', 3),
    'ACTIVITY_UPDATED {"dropId":"shoes","latestPurchasers":[]}'],
  'A refund is told.'
);
select is(
  pg_temp.squeezed(pg_temp.announced($$
    do $do$
    begin
      perform api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('bob'));
      perform pg_temp.tell_of('shoes', 'bob', 'failed');
      perform api.cancel_payment(pg_temp.payment_id('shoes', 'bob'), pg_temp.user_id('bob'));
    end
    $do$
  $$)),
  array[pg_temp.payment_updated('bob', 'cancelled'), pg_temp.stock_updated('shoes', 4)],
  'What happened within a transaction is told once, as it is in the end.'
);
select is(
  pg_temp.squeezed(pg_temp.announced($$select pg_temp.tell_of('shoes', 'bob', 'paid')$$)),
  array[pg_temp.payment_updated('bob', 'paid'),
    'PURCHASE_COMPLETED {"dropId":"shoes","username":"pgtap bob","qty":1,"purchasedAt":"now"}', pg_temp.stock_updated('shoes', 3),
    'ACTIVITY_UPDATED {"dropId":"shoes","latestPurchasers":[{"userId":"bob","username":"pgtap bob","qty":1,"createdAt":"now"}]}'],
  'Money that comes late takes the unit again, and all of that is told.'
);

-- The stock by the clock: it is told when what is due is taken back, and again if the money comes then.

do $$
begin
  perform api.purchase(pg_temp.drop_id('shoes'), pg_temp.user_id('cat'));
end
$$;
select is(
  pg_temp.squeezed(pg_temp.announced(
    $$do $do$ begin perform pg_temp.let_payment_run_out('shoes', 'cat'); perform api.expire_payments(); end $do$ $$)),
  array[pg_temp.payment_updated('cat', 'cancelled'), pg_temp.stock_updated('shoes', 4)],
  'A sweep tells the buyer that the payment has ended, and everybody that the unit is back.'
);
do $$
begin
  perform pg_temp.let_payment_run_out('shoes', 'cat');
  update inventory.drops set total_stock = total_stock - available_stock, available_stock = 0 where id = pg_temp.drop_id('shoes');
end
$$;
select is(
  pg_temp.squeezed(pg_temp.announced($$select pg_temp.tell_of('shoes', 'cat', 'paid')$$)),
  array[pg_temp.payment_updated('cat', 'refunded', '10.00')], 'Money that comes too late is refunded, and that is told.'
);
select is(pg_temp.told(), array['cat'], 'The buyer is told.');
select is((select count(*) from inventory.changes where transaction_id = pg_current_xact_id()), 0::bigint, 'Nothing is left to be told.');
select is_empty(
  $$
    select from api.events_after(null, 1000, array[pg_temp.drop_id('shoes')]) e where e.type = 'PAYMENT_UPDATED'
    union all
    select from api.events_after(null, 1000) e where e.type = 'PAYMENT_UPDATED' and e.drop_id = pg_temp.drop_id('shoes')
  $$,
  'Public readers of the log do not see it.'
);
select * from finish();
rollback;
