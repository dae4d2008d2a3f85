-- What the pgTAP files share. conftest.py runs this once in the session of the tests; to try one file in psql, run this first.
-- Every file makes the users and drops that it needs and rolls them back. "The seller" is the user of this name; a test looks
-- only at the seller's drops, because the database may hold other tests' drops.

-- Ids and figures.

-- A user's id, made from the name.
create function pg_temp.user_id(p_name text) returns uuid language sql immutable as $$ select md5('pgtap ' || p_name)::uuid $$;

-- The ids of these users, in this order.
create function pg_temp.user_ids(variadic p_names text[]) returns uuid[] language sql immutable as $$
  select array_agg(pg_temp.user_id(name) order by n) from unnest(p_names) with ordinality as u (name, n)
$$;

-- The id of the seller's drop of this name.
create function pg_temp.drop_id(p_name text) returns uuid language sql stable as $$
  select d.id from inventory.drops d where d.created_by = pg_temp.user_id('seller') and d.name = p_name
$$;

-- The id of a user's reservation on a drop: the ACTIVE one, or else the newest.
create function pg_temp.hold_id(p_drop text, p_user text) returns uuid language sql stable as $$
  select r.id
  from inventory.reservations r
  where r.drop_id = pg_temp.drop_id(p_drop) and r.user_id = pg_temp.user_id(p_user)
  order by r.status = 'ACTIVE' desc, r.id desc
  limit 1
$$;

-- The id of a user's one purchase on a drop.
create function pg_temp.purchase_id(p_drop text, p_user text) returns uuid language sql stable as $$
  select p.id from inventory.purchases p where p.drop_id = pg_temp.drop_id(p_drop) and p.user_id = pg_temp.user_id(p_user)
$$;

-- How many units of a drop are available.
create function pg_temp.stock_of(p_name text) returns integer language sql stable as $$
  select d.available_stock from inventory.drops d where d.id = pg_temp.drop_id(p_name)
$$;

-- The id of a variant of a drop.
create function pg_temp.variant_id(p_drop text, p_name text) returns uuid language sql stable as $$
  select v.id from inventory.variants v where v.drop_id = pg_temp.drop_id(p_drop) and v.name = p_name
$$;

-- The variants that a drop shows, as "S 1 of 2 at 10.00", in their order.
create function pg_temp.variants_of(p_drop text) returns text[] language sql stable as $$
  select array_agg(format('%s %s of %s at %s', v.name, v.available_stock, v.total_stock, v.price) order by v.n)
  from api.get_drop(pg_temp.drop_id(p_drop)) d
  cross join unnest(d.variants) with ordinality as v (id, name, price, total_stock, available_stock, n)
$$;

-- All reservations on a drop as "ann ACTIVE", by user and status.
create function pg_temp.statuses_on(p_drop text) returns text[] language sql stable as $$
  select array_agg(substr(u.username, 7) || ' ' || r.status order by u.username, r.status)
  from inventory.reservations r
  join inventory.users u on u.id = r.user_id
  where r.drop_id = pg_temp.drop_id(p_drop)
$$;

-- What api.audit finds wrong with the seller's drops.
create function pg_temp.findings()
returns table (drop_name text, invariant text, expected bigint, found bigint) language sql stable as $$
  select d.name, a.invariant, a.expected, a.found
  from api.audit() a
  join inventory.drops d on d.id = a.drop_id
  where d.created_by = pg_temp.user_id('seller')
$$;

-- The stored rows of the seller's drops, under the names of the wire and in their order.

create function pg_temp.stored_drops() returns setof api.drop_row language sql stable as $$
  select
    d.id, d.name, d.price, d.currency, d.total_stock, d.available_stock,
    array(
      select row(v.id, v.name, coalesce(v.price, d.price), v.total_stock, v.available_stock)::api.variant_row
      from inventory.variants v
      where v.drop_id = d.id
      order by v.position
    ),
    d.starts_at, d.ends_at, d.status, d.paused_at, d.limit_per_user, d.hold_seconds, d.rehold_after_seconds, d.extension_seconds,
    d.revision,
    d.created_by, d.created_at, d.updated_at, d.image_url
  from inventory.drops d
  where d.created_by = pg_temp.user_id('seller')
$$;

create function pg_temp.stored_reservations() returns setof api.reservation_row language sql stable as $$
  select
    r.id, r.drop_id, r.variant_id, r.user_id, r.basket_id, r.qty, r.unit_price, r.currency, r.qty * r.unit_price, r.status,
    r.expires_at, r.extended_at, r.created_at, r.updated_at
  from inventory.reservations r
  join inventory.drops d on d.id = r.drop_id and d.created_by = pg_temp.user_id('seller')
$$;

create function pg_temp.stored_purchases() returns setof api.purchase_row language sql stable as $$
  select
    p.id, p.drop_id, p.variant_id, p.reservation_id, p.user_id, p.qty, p.unit_price, p.currency, p.amount, p.status,
    p.refunded_amount, p.refunded_at, p.created_at, p.updated_at, p.refunded_qty, p.payment_id
  from inventory.purchases p
  join inventory.drops d on d.id = p.drop_id and d.created_by = pg_temp.user_id('seller')
$$;

-- Factories. They use the single public functions, which raise when something is wrong with the test. A test may call them at the
-- top, because they are PL/pgSQL: their void is an empty line among the results, which TAP ignores.

-- Make the users of these names. Each is called "pgtap ann" and so on, because no two users can share a username.
create function pg_temp.make_users(variadic p_names text[]) returns void language plpgsql as $$
begin
  perform api.ensure_user(pg_temp.user_id(name), 'pgtap ' || name) from unnest(p_names) as name;
end
$$;

-- Make a drop of the seller's that starts and ends so long from now, in any status; by default it has been on sale for an hour.
-- One that is ended or cancelled was so before its end was set, because a drop that is over stays as it is.
create function pg_temp.make_drop(
  p_name text, p_stock integer default 10, p_starts_in interval default '-1 hour', p_ends_in interval default null,
  p_status text default null
) returns void language plpgsql as $$
begin
  perform api.create_drop(
    p_name, 10, p_stock, pg_temp.user_id('seller'), now() + p_starts_in,
    case when p_status in ('ended', 'cancelled') then null else now() + p_ends_in end,
    case when p_status in ('ended', 'cancelled') then 'live' else p_status end);
  if p_status in ('ended', 'cancelled') then
    perform api.update_drop(pg_temp.drop_id(p_name), jsonb_build_object('status', p_status));
    update inventory.drops set ends_at = coalesce(now() + p_ends_in, ends_at) where id = pg_temp.drop_id(p_name);
  end if;
end
$$;

-- Make several such drops of ten units.
create function pg_temp.make_drops(variadic p_names text[]) returns void language plpgsql as $$
begin
  perform pg_temp.make_drop(name) from unnest(p_names) as name;
end
$$;

-- Make a live drop of the seller's with these variants and terms; by default sizes S of 2 units and M of 5.
create function pg_temp.make_sizes(
  p_name text, p_terms jsonb default null,
  p_variants jsonb default '[{"name": "S", "total_stock": 2}, {"name": "M", "total_stock": 5}]'
) returns void language plpgsql as $$
begin
  perform api.create_drop(
    p_name, 10, null, pg_temp.user_id('seller'), now() - interval '1 hour', p_variants => p_variants, p_terms => p_terms);
end
$$;

-- Make a live drop of ten units with these terms.
create function pg_temp.make_drop_with(p_name text, p_terms jsonb, p_price numeric default 10) returns void language plpgsql as $$
begin
  perform api.create_drop(p_name, p_price, 10, pg_temp.user_id('seller'), now() - interval '1 hour', p_terms => p_terms);
end
$$;

-- Make a drop of ten units in a state. "started" is a scheduled drop whose start has passed; drafts and scheduled drops start in an
-- hour, the others started an hour ago. It was made a day ago, so that a change shows. Returns its id.
create function pg_temp.make_drop_in(p_state text, p_name text) returns uuid language plpgsql as $$
begin
  perform pg_temp.make_drop(
    p_name, 10, case when p_state in ('draft', 'scheduled') then interval '1 hour' else '-1 hour' end, null,
    case p_state when 'started' then 'scheduled' else p_state end);
  update inventory.drops set updated_at = now() - interval '1 day', created_at = now() - interval '1 day'
  where id = pg_temp.drop_id(p_name);
  return pg_temp.drop_id(p_name);
end
$$;

-- Hold a unit of a drop for each of these users.
create function pg_temp.hold(p_drop text, variadic p_users text[]) returns void language plpgsql as $$
begin
  perform api.reserve(pg_temp.drop_id(p_drop), pg_temp.user_id(name)) from unnest(p_users) as name;
end
$$;

-- Sell a unit of a drop to each of these users.
create function pg_temp.buy(p_drop text, variadic p_users text[]) returns void language plpgsql as $$
begin
  perform pg_temp.hold(p_drop, variadic p_users);
  perform api.purchase(pg_temp.drop_id(p_drop), pg_temp.user_id(name)) from unnest(p_users) as name;
end
$$;

-- Let a user's hold end at this moment, or at another. It was last changed a day ago, so that a change shows.
create function pg_temp.let_run_out(p_drop text, p_user text, p_expires_at timestamptz default now())
returns void language plpgsql as $$
begin
  update inventory.reservations r
  set expires_at = p_expires_at, updated_at = now() - interval '1 day'
  where r.drop_id = pg_temp.drop_id(p_drop) and r.user_id = pg_temp.user_id(p_user) and r.status = 'ACTIVE';
end
$$;

-- Let the seller's drops have been changed a day ago, so that a change shows.
create function pg_temp.age_drops() returns void language plpgsql as $$
begin
  update inventory.drops set updated_at = now() - interval '1 day' where created_by = pg_temp.user_id('seller');
end
$$;

-- Batches of one drop, without keys: the code that each user is answered, null for a success.

create function pg_temp.reserve_all(p_drop text, variadic p_users text[]) returns text[] language sql as $$
  select array_agg(o.code order by o.n)
  from api.reserve_batch(array(
    select row(pg_temp.drop_id(p_drop), pg_temp.user_id(u.name), null, null, null)::api.reserve_request
    from unnest(p_users) with ordinality as u (name, n)
    order by u.n)) o
$$;

create function pg_temp.purchase_all(p_drop text, variadic p_users text[]) returns text[] language sql as $$
  select array_agg(o.code order by o.n)
  from api.purchase_batch(array(
    select row(pg_temp.drop_id(p_drop), pg_temp.user_id(u.name), null, null)::api.purchase_request
    from unnest(p_users) with ordinality as u (name, n)
    order by u.n)) o
$$;

create function pg_temp.cancel_all(p_drop text, variadic p_users text[]) returns text[] language sql as $$
  select array_agg(o.code order by o.n)
  from api.cancel_batch(array(
    select row(pg_temp.hold_id(p_drop, u.name), pg_temp.user_id(u.name))::api.cancel_request
    from unnest(p_users) with ordinality as u (name, n)
    order by u.n)) o
$$;

-- Payments. A test that wants them lets a provider take the money first: select api.set_payment_provider('stripe', 600).

-- The id of the newest payment of a user with a purchase on a drop.
create function pg_temp.payment_id(p_drop text, p_user text) returns uuid language sql stable as $$
  select p.payment_id
  from inventory.purchases p
  where p.drop_id = pg_temp.drop_id(p_drop) and p.user_id = pg_temp.user_id(p_user) and p.payment_id is not null
  order by p.id desc
  limit 1
$$;

-- Let the provider tell of a payment: the outcome, the problem if there is one, and the payment's status then.
create function pg_temp.tell(
  p_payment_id uuid, p_status text, p_refunded_amount numeric default null, p_event_id text default null,
  p_amount numeric default null, p_currency text default null, p_problem text default null, p_provider text default 'stripe',
  p_reference text default null
) returns text language sql as $$
  select concat_ws(' ', e.outcome, e.problem, (e.payment).status)
  from api.record_payment_event(
    row(
      p_provider, coalesce(p_event_id, gen_random_uuid()::text), p_payment_id, p_reference, p_status, p_amount, p_currency, p_refunded_amount,
      '{}', p_problem)::api.payment_event) e
$$;

-- The same of the newest payment of a user on a drop.
create function pg_temp.tell_of(p_drop text, p_user text, p_status text, p_refunded_amount numeric default null)
returns text language sql as $$
  select pg_temp.tell(pg_temp.payment_id(p_drop, p_user), p_status, p_refunded_amount)
$$;

-- Let the newest payment of a user on a drop end at this moment.
create function pg_temp.let_payment_run_out(p_drop text, p_user text) returns void language plpgsql as $$
declare
  v_id uuid := pg_temp.payment_id(p_drop, p_user);
begin
  update inventory.payments set expires_at = now() where id = v_id;
  update inventory.purchases set payment_expires_at = now() where payment_id = v_id;
end
$$;

-- What providers are to be told of the payments of a drop, as "ann cancel 10.00", in the order in which it was written.
create function pg_temp.calls_of(p_drop text) returns text[] language sql stable as $$
  select array_agg(concat_ws(' ', substr(u.username, 7), c.action, c.amount, case when c.done_at is not null then 'done' end) order by c.id)
  from inventory.provider_calls c
  join inventory.payments y on y.id = c.payment_id
  join inventory.users u on u.id = y.user_id
  where c.drop_id = pg_temp.drop_id(p_drop)
$$;

-- All purchases on a drop as "ann paid", by user and status, as they are stored.
create function pg_temp.purchases_on(p_drop text) returns text[] language sql stable as $$
  select array_agg(substr(u.username, 7) || ' ' || p.status order by u.username, p.status)
  from inventory.purchases p
  join inventory.users u on u.id = p.user_id
  where p.drop_id = pg_temp.drop_id(p_drop)
$$;

-- Errors.

-- What a statement raises: SQLSTATE, MESSAGE and DETAIL.
create function pg_temp.refusal(p_sql text) returns text language plpgsql as $$
declare
  v_detail text;
begin
  execute p_sql;
  return 'nothing was raised';
exception when others then
  get stacked diagnostics v_detail = pg_exception_detail;
  return format('%s %s: %s', sqlstate, sqlerrm, v_detail);
end
$$;

-- Reserve, and what it raises.
create function pg_temp.reserving(
  p_drop text, p_user text, p_qty integer default 1, p_variant text default null, p_key text default null
) returns text language sql as $$
  select pg_temp.refusal(format(
    'select api.reserve(%L, %L, %L, 60, %L, %L)', pg_temp.drop_id(p_drop), pg_temp.user_id(p_user), p_key,
    pg_temp.variant_id(p_drop, p_variant), p_qty))
$$;

-- The refusal with this code, with its general sentence or another one. test_errors.sql proves codes, statuses and sentences.
create function pg_temp.error(p_code text, p_sentence text default null) returns text language sql stable as $$
  select format('PT%s %s: %s', e.status, e.code, coalesce(p_sentence, e.message)) from api.errors() e where e.code = p_code
$$;

-- What api.update_drop raises for these changes of a drop.
create function pg_temp.refusal_of_update(p_name text, p_changes jsonb) returns text language sql as $$
  select pg_temp.refusal(format('select api.update_drop(pg_temp.drop_id(%L), %L)', p_name, p_changes))
$$;

-- Events.

create function pg_temp.stock_updated(p_drop text, p_units integer) returns text language sql immutable as $$
  select format('STOCK_UPDATED {"dropId":"%s","availableStock":%s}', p_drop, p_units)
$$;

create function pg_temp.reservation_expired(p_drop text, p_user text) returns text language sql immutable as $$
  select format('RESERVATION_EXPIRED {"dropId":"%s","reservationId":"hold of %s"}', p_drop, p_user)
$$;

-- What a statement announces about the seller's drops, as if it were a transaction: "TYPE data" for each event, in order. What a
-- test cannot know beforehand is replaced in data: a drop's and a user's id by the name, a reservation's by "hold of ann", this
-- moment by "now"; and a drop's revision, which test_drop_revision.sql knows, by n.
create function pg_temp.announced(p_sql text) returns text[] language plpgsql as $$
declare
  v_last_id bigint;
  v_events text[];
  v_id text;
  v_name text;
begin
  set constraints all immediate;
  set constraints all deferred;
  v_last_id := (select coalesce(max(e.id), 0) from inventory.events e);
  execute p_sql;
  set constraints all immediate;
  set constraints all deferred;
  v_events := array(
    select regexp_replace(
      replace(e.type || ' ' || e.data, (to_json(now() at time zone 'UTC') #>> '{}') || '+00:00', 'now'),
      '"revision":\d+', '"revision":n')
    from inventory.events e
    join inventory.drops d on d.id = e.drop_id and d.created_by = pg_temp.user_id('seller')
    where e.id > v_last_id
    order by e.id
  );
  for v_id, v_name in
    select d.id, d.name from inventory.drops d where d.created_by = pg_temp.user_id('seller')
    union all
    select u.id, substr(u.username, 7)
    from inventory.users u
    where u.username like 'pgtap %' and u.id = pg_temp.user_id(substr(u.username, 7))
    union all
    select r.id, 'hold of ' || substr(u.username, 7)
    from inventory.reservations r
    join inventory.drops d on d.id = r.drop_id and d.created_by = pg_temp.user_id('seller')
    join inventory.users u on u.id = r.user_id
  loop
    v_events := array(select replace(e.event, v_id, v_name) from unnest(v_events) with ordinality as e (event, n) order by e.n);
  end loop;
  return v_events;
end
$$;
