-- The schema api of a router: the row types of a node, and each of its functions for all nodes together.
--
-- `python -m tools.router` writes this file from db/router/routes.txt and the functions of a node. Change those.

create type api.basket_item as (
  drop_id uuid,
  variant_id uuid,
  qty integer
);

comment on type api.basket_item is
'One item of api.reserve_basket: qty units (null: 1) of drop_id, of its variant_id if it has variants.';

create type api.basket_request as (
  user_id uuid,
  items api.basket_item[],
  idempotency_key text
);

comment on type api.basket_request is
'One request of api.reserve_basket_batch: hold all of the items for user_id, or none. Without a key it is null.';

create type api.cancel_request as (
  reservation_id uuid,
  user_id uuid
);

comment on type api.cancel_request is
'One request of api.cancel_batch: give back the unit that user_id holds as reservation_id.';

create type api.drop as (
  id uuid,
  name text,
  price numeric,
  total_stock integer,
  available_stock integer,
  starts_at timestamp with time zone,
  ends_at timestamp with time zone,
  status text,
  created_by uuid,
  "createdAt" timestamp with time zone,
  "updatedAt" timestamp with time zone
);

comment on type api.drop is
'Unused since 0.3, see api.drop_row. The next release drops it.';

create type api.event as (
  type text,
  id text,
  data json
);

comment on type api.event is
'Unused since 0.2, where functions return the drop of an event, too. The next release drops it.';

create type api.outcome as (
  n integer,
  status integer,
  code text,
  message text,
  replayed boolean,
  data json
);

comment on type api.outcome is
'The outcome of request number n of a batch: HTTP status; code and message if it was refused; data, a row, if it was carried out.';

create type api.payment_event as (
  provider text,
  event_id text,
  payment_id uuid,
  provider_reference text,
  status text,
  amount numeric,
  currency text,
  refunded_amount numeric,
  body text,
  problem text
);

comment on type api.payment_event is
'What a provider told about a payment: that it was paid, failed, cancelled or refunded. refunded_amount is what was given back so far in all.';

create type api.payment_row as (
  id uuid,
  drop_id uuid,
  basket_id uuid,
  user_id uuid,
  amount numeric,
  currency text,
  status text,
  refunded_amount numeric,
  provider text,
  provider_reference text,
  client_secret text,
  url text,
  expires_at timestamp with time zone,
  paid_at timestamp with time zone,
  "createdAt" timestamp with time zone,
  "updatedAt" timestamp with time zone
);

comment on type api.payment_row is
'A payment by the clock: one that was not paid in time is cancelled. client_secret and url are null once it has ended.';

create type api.provider_call as (
  id uuid,
  payment_id uuid,
  drop_id uuid,
  action text,
  amount numeric,
  attempts integer,
  payment api.payment_row
);

comment on type api.provider_call is
'A call that a worker has leased: create, cancel or refund the payment at its provider.';

create type api.provider_call_row as (
  id uuid,
  payment_id uuid,
  drop_id uuid,
  action text,
  amount numeric,
  currency text,
  attempts integer,
  status text,
  next_attempt_at timestamp with time zone,
  done_at timestamp with time zone,
  gave_up_at timestamp with time zone,
  last_error text,
  "createdAt" timestamp with time zone
);

comment on type api.provider_call_row is
'A call to a provider as its seller sees it. status is open, done or given_up.';

create type api.purchase as (
  id uuid,
  drop_id uuid,
  reservation_id uuid,
  user_id uuid,
  qty integer,
  status text,
  "createdAt" timestamp with time zone,
  "updatedAt" timestamp with time zone
);

comment on type api.purchase is
'Unused since 0.3, see api.purchase_row. The next release drops it.';

create type api.purchase_request as (
  drop_id uuid,
  user_id uuid,
  idempotency_key text,
  reservation_id uuid
);

comment on type api.purchase_request is
'One request of api.purchase_batch: sell user_id what is held on drop_id as reservation_id (null: the one hold there is).';

create type api.purchase_row as (
  id uuid,
  drop_id uuid,
  variant_id uuid,
  reservation_id uuid,
  user_id uuid,
  qty integer,
  unit_price numeric,
  currency text,
  amount numeric,
  status text,
  refunded_amount numeric,
  refunded_at timestamp with time zone,
  "createdAt" timestamp with time zone,
  "updatedAt" timestamp with time zone,
  refunded_qty integer,
  payment_id uuid
);

create type api.purchaser as (
  "userId" uuid,
  username text,
  qty integer,
  "createdAt" timestamp with time zone
);

create type api.refused_item as (
  index integer,
  code text,
  message text
);

comment on type api.refused_item is
'An item of a basket that cannot be held: its place in the items, from 0 on, and why.';

create type api.reservation as (
  id uuid,
  drop_id uuid,
  user_id uuid,
  status text,
  expires_at timestamp with time zone,
  "createdAt" timestamp with time zone,
  "updatedAt" timestamp with time zone
);

comment on type api.reservation is
'Unused since 0.3, see api.reservation_row. The next release drops it.';

create type api.reservation_row as (
  id uuid,
  drop_id uuid,
  variant_id uuid,
  user_id uuid,
  basket_id uuid,
  qty integer,
  unit_price numeric,
  currency text,
  amount numeric,
  status text,
  expires_at timestamp with time zone,
  extended_at timestamp with time zone,
  "createdAt" timestamp with time zone,
  "updatedAt" timestamp with time zone
);

create type api.reserve_request as (
  drop_id uuid,
  user_id uuid,
  idempotency_key text,
  variant_id uuid,
  qty integer
);

comment on type api.reserve_request is
'One request of api.reserve_batch: hold qty units (null: 1) of drop_id, of its variant_id if it has variants, for user_id.';

create type api."user" as (
  id uuid,
  username text,
  "createdAt" timestamp with time zone,
  "updatedAt" timestamp with time zone
);

create type api.user_request as (
  user_id uuid,
  username text
);

comment on type api.user_request is
'One request of api.ensure_user_batch: make user_id if it is missing, named username (null: the default name).';

create type api.variant_row as (
  id uuid,
  name text,
  price numeric,
  total_stock integer,
  available_stock integer
);

comment on type api.variant_row is
'A size or tier of a drop. price is what a unit costs, the drop''s if the variant has none.';

create type api.webhook_delivery_row as (
  id uuid,
  endpoint_id uuid,
  webhook_id uuid,
  drop_id uuid,
  type text,
  status text,
  attempts integer,
  last_attempt_at timestamp with time zone,
  last_status integer,
  last_error text,
  next_attempt_at timestamp with time zone,
  give_up_at timestamp with time zone,
  "createdAt" timestamp with time zone
);

comment on type api.webhook_delivery_row is
'A message for a webhook endpoint, and what became of it.';

create type api.webhook_endpoint_row as (
  id uuid,
  url text,
  event_types text[],
  active boolean,
  disabled_at timestamp with time zone,
  disabled_reason text,
  failing_since timestamp with time zone,
  previous_secret_ends_at timestamp with time zone,
  "createdAt" timestamp with time zone,
  "updatedAt" timestamp with time zone
);

comment on type api.webhook_endpoint_row is
'A webhook endpoint, without its secret.';

create type api.basket_row as (
  id uuid,
  user_id uuid,
  reservations api.reservation_row[],
  amounts jsonb,
  expires_at timestamp with time zone,
  "createdAt" timestamp with time zone
);

comment on type api.basket_row is
'A basket. Its reservations have the order of its items. amounts has their cost by currency, expires_at is when the first ends.';

create type api.drop_row as (
  id uuid,
  name text,
  price numeric,
  currency text,
  total_stock integer,
  available_stock integer,
  variants api.variant_row[],
  starts_at timestamp with time zone,
  ends_at timestamp with time zone,
  status text,
  paused_at timestamp with time zone,
  limit_per_user integer,
  hold_seconds integer,
  rehold_after_seconds integer,
  extension_seconds integer,
  revision integer,
  created_by uuid,
  "createdAt" timestamp with time zone,
  "updatedAt" timestamp with time zone,
  image_url text
);

CREATE OR REPLACE FUNCTION router.errors()
 RETURNS TABLE(code text, status integer, message text)
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$
  select e.code, e.status, e.message
  from (values
    ('VALIDATION_ERROR', 400, 'A value is not acceptable; the message names the field and the reason.'),
    ('AUTH_REQUIRED', 401, 'No user has this id. Identify yourself as an existing user.'),
    ('TICKET_INVALID', 401, 'The ticket of this stream is forged or too old. Get a new one: POST /stream-tickets.'),
    ('FORBIDDEN', 403, 'You may not do this.'),
    ('DROP_NOT_FOUND', 404, 'There is no drop with this id.'),
    ('RESERVATION_NOT_FOUND', 404, 'You have no reservation with this id.'),
    ('BASKET_NOT_FOUND', 404, 'You have no basket with this id.'),
    ('VARIANT_NOT_FOUND', 404, 'This drop has no variant with this id.'),
    ('PURCHASE_NOT_FOUND', 404, 'There is no purchase with this id.'),
    ('PAYMENT_NOT_FOUND', 404, 'There is no payment with this id.'),
    ('PROVIDER_CALL_NOT_FOUND', 404, 'There is no call to a payment provider with this id.'),
    ('WEBHOOK_ENDPOINT_NOT_FOUND', 404, 'There is no webhook endpoint with this id.'),
    ('WEBHOOK_DELIVERY_NOT_FOUND', 404, 'There is no delivery with this id. It may have been pruned.'),
    ('DROP_NOT_ACTIVE', 409,
      'This drop is not on sale now: it has not started, is paused, has ended or was cancelled. See its status and times.'),
    ('OUT_OF_STOCK', 409, 'Every unit of this drop is held or sold. A unit comes back when a hold expires or is cancelled.'),
    ('ALREADY_RESERVED', 409, 'You have reserved this already. Purchase or cancel that reservation first.'),
    ('LIMIT_EXCEEDED', 409, 'You would have more units of this drop than one person may have. See its limit_per_user.'),
    ('RESERVED_TOO_SOON', 409, 'You let a hold of this drop go, and may not hold units again yet.'),
    ('SEVERAL_RESERVATIONS', 409, 'You hold several variants of this drop. Say which reservation: reservation_id.'),
    ('NO_ACTIVE_RESERVATION', 409, 'You have no active reservation that this would buy. Reserve first.'),
    ('RESERVATION_EXPIRED', 409, 'Your reservation ran out and its units went back to stock. Reserve again.'),
    ('RESERVATION_NOT_ACTIVE', 409, 'This reservation was consumed, so it cannot be cancelled.'),
    ('EXTENSION_NOT_ALLOWED', 409, 'Holds of this drop cannot be extended.'),
    ('BASKET_REFUSED', 409, 'Not every item of the basket can be held, so none is. See what was refused, and why.'),
    ('BASKET_NOT_ACTIVE', 409, 'Not every hold of this basket is ACTIVE any more.'),
    ('BASKET_SPANS_NODES', 409,
      'The drops of this basket are kept in several databases, and a basket cannot span them. Reserve them one by one.'),
    ('SEVERAL_CURRENCIES', 409,
      'One payment is in one currency, and the items of this basket have several. Buy them one by one.'),
    ('INVALID_STATUS_CHANGE', 409, 'This change of status is not allowed.'),
    ('VARIANT_IN_USE', 409, 'Units of this variant were held or sold, so it cannot go.'),
    ('STOCK_BELOW_COMMITTED', 409, 'total_stock may not be less than the units held and sold.'),
    ('WEBHOOK_ENDPOINT_INACTIVE', 409, 'This webhook endpoint is not active, so nothing is sent to it. Activate it first.'),
    ('TOO_MANY_WEBHOOK_ENDPOINTS', 409, 'There are 20 webhook endpoints already. Remove one first.'),
    ('USERNAME_TAKEN', 409, 'Another user has this username. Choose another.'),
    ('DROP_CHANGED', 412, 'The drop was changed since you read it. Read it again, then decide.'),
    ('IDEMPOTENCY_KEY_REUSED', 422, 'This Idempotency-Key came with another request before. Use a new one for a new request.')
  ) as e (code, status, message)
$function$;

CREATE OR REPLACE FUNCTION router.fold_case(p_text text)
 RETURNS text
 LANGUAGE plpgsql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if exists (select from pg_collation c where c.collname = 'pg_c_utf8') and getdatabaseencoding() = 'UTF8' then
    return lower(upper(p_text collate pg_c_utf8));
  elsif exists (
    select from pg_collation c
    where c.collname = 'und-x-icu' and c.collencoding in (-1, pg_char_to_encoding(getdatabaseencoding()))
  ) then
    return lower(upper(p_text collate "und-x-icu"));
  end if;
  return lower(upper(p_text));
end
$function$;

CREATE OR REPLACE FUNCTION router.name_key(p_name text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN (p_name ~ '^[!-~]+( [!-~]+)*$'::text) THEN lower((p_name COLLATE "C")) ELSE router.fold_case(btrim(regexp_replace(regexp_replace(NORMALIZE(p_name, NFKC), '[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2060-\u2065\u206a-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]'::text, ''::text, 'g'::text), '[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+'::text, ' '::text, 'g'::text))) END;

create or replace function api.currencies()
returns table (currency text, decimals integer)
language sql immutable parallel safe security definer
set search_path = pg_catalog, pg_temp
as $$
  select c.currency, l.decimals
  from (values
    (0, '
      BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF
    '),
    (2, '
      AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP CVE
      CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW
      KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK
      PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS
      UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG
    '),
    (3, '
      BHD IQD JOD KWD LYD OMR TND
    ')
  ) as l (decimals, codes)
  cross join lateral regexp_split_to_table(btrim(l.codes, e' \n'), '\s+') as c (currency)
$$;

comment on function api.currencies() is
'List the currencies that a drop can have, by their codes of ISO 4217, each with the number of decimals of its amounts.';

create or replace function api.errors()
returns table (code text, status integer, message text)
language sql immutable parallel safe security definer
set search_path = pg_catalog, pg_temp
as $$
  select e.code, e.status, e.message from router.errors() e
$$;

comment on function api.errors() is
'List every error of the database: code, HTTP status, sentence for people. A function raises it as SQLSTATE PT<status> with the
code as MESSAGE and the sentence as DETAIL.';

create or replace function api.help()
returns table (function text, arguments text, does text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select
    p.proname::text,
    case when length(a.names) > 60 then regexp_replace(a.names, '(.{40,58},) ', E'\\1\n', 'g') else a.names end,
    case when length(first.sentence) > 70 then regexp_replace(left(first.sentence, 69), '\s+\S*$', '') || '…' else first.sentence end
  from pg_proc p
  cross join lateral (select obj_description(p.oid, 'pg_proc') as text) said
  cross join lateral (
    select coalesce(string_agg(
      case when x.n > p.pronargs - p.pronargdefaults then '[' || substr(x.name, 3) || ']' else substr(x.name, 3) end, ', '
      order by x.n), '') as names
    from unnest(p.proargnames) with ordinality as x (name, n)
    where x.n <= p.pronargs
  ) a
  cross join lateral (select split_part(replace(said.text, E'\n', ' '), '. ', 1) as sentence) first
  where p.pronamespace = 'api'::regnamespace
    and has_function_privilege(coalesce(nullif(current_setting('role'), 'none'), session_user), p.oid, 'execute')
    and p.proname !~ '_(batch|from_json|outcome)$|^(take|finish|fail)_(provider|webhook)|^record_payment' and said.text !~* '^(superseded|for a router)'
  order by p.proname, p.pronargs
$$;

comment on function api.help() is 'List the functions that you may call, with arguments and purpose. Arguments are named p_….';

create or replace function api.advance_drops()
returns SETOF api.drop_row
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return query
  select r.*
  from json_populate_recordset(
    null::api.drop_row,
    router.together(array(select a.rows from router.ask_all('advance_drops', jsonb_build_object()) a))
  ) r;
end
$$;

comment on function api.advance_drops() is
'Start and end the drops whose time has come (scheduled to live, live to ended) and return them.';

create or replace function api.cancel_basket(p_basket_id uuid, p_user_id uuid)
returns SETOF api.basket_row
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return query
  select r.*
  from json_populate_recordset(
    null::api.basket_row,
    router.ask(router.node_of(p_basket_id), 'cancel_basket', jsonb_build_object('p_basket_id', p_basket_id, 'p_user_id', p_user_id))
  ) r;
end
$$;

comment on function api.cancel_basket(p_basket_id uuid, p_user_id uuid) is
'Give back all that a user holds in a basket, and return the basket. It may be repeated. With several drops no lock but the first
is waited for longer than 100 ms (55P03).';

create or replace function api.cancel_batch(p_requests api.cancel_request[])
returns SETOF api.outcome
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return query select o.* from router.batch('cancel_batch', jsonb_build_object('p_requests', p_requests), array(select q.reservation_id from unnest(p_requests) with ordinality q order by q.ordinality)) o;
end
$$;

comment on function api.cancel_batch(p_requests api.cancel_request[]) is
'Cancel ACTIVE reservations and give their units back. The answer has one row a request: n is its place in p_requests, status the
HTTP status, code and message say why it is refused. With several drops no lock is waited for longer than 100 ms (55P03).
select * from api.cancel_batch(array[row(''<reservation>'', ''<user>'')]::api.cancel_request[]);';

create or replace function api.cancel_drop(
  p_drop_id uuid,
  p_refund boolean DEFAULT false,
  p_cancelled_by uuid DEFAULT NULL::uuid,
  p_idempotency_key text DEFAULT NULL::text
)
returns TABLE(drop api.drop_row, remaining bigint, replayed boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return query
  select r.*
  from json_to_recordset(
    router.ask(router.node_of(p_drop_id), 'cancel_drop', jsonb_build_object('p_drop_id', p_drop_id, 'p_refund', p_refund, 'p_cancelled_by', p_cancelled_by, 'p_idempotency_key', p_idempotency_key))
  ) as r (drop api.drop_row, remaining bigint, replayed boolean);
end
$$;

comment on function api.cancel_drop(p_drop_id uuid, p_refund boolean, p_cancelled_by uuid, p_idempotency_key text) is
'Cancel a drop and return it. With p_refund, up to 500 of its sales are refunded, too: call it again until remaining is 0.
select (drop).*, remaining from api.cancel_drop(''…'', true);';

create or replace function api.cancel_payment(p_payment_id uuid, p_user_id uuid)
returns SETOF api.payment_row
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return query
  select r.*
  from json_populate_recordset(
    null::api.payment_row,
    router.ask(router.node_of(p_payment_id), 'cancel_payment', jsonb_build_object('p_payment_id', p_payment_id, 'p_user_id', p_user_id))
  ) r;
end
$$;

comment on function api.cancel_payment(p_payment_id uuid, p_user_id uuid) is
'Cancel a payment of a user that is not paid yet, give its units back and return it.
select * from api.cancel_payment(''<payment>'', ''<user>'');';

create or replace function api.cancel_reservation(p_reservation_id uuid, p_user_id uuid)
returns SETOF api.reservation_row
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return query
  select r.*
  from json_populate_recordset(
    null::api.reservation_row,
    router.ask(router.node_of(p_reservation_id), 'cancel_reservation', jsonb_build_object('p_reservation_id', p_reservation_id, 'p_user_id', p_user_id))
  ) r;
end
$$;

comment on function api.cancel_reservation(p_reservation_id uuid, p_user_id uuid) is
'Cancel a user''s ACTIVE reservation, give its unit back and return the reservation.';

create or replace function api.claim_reconciliation(p_interval_seconds integer)
returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return router.ask((router.all_nodes())[1], 'claim_reconciliation', jsonb_build_object('p_interval_seconds', p_interval_seconds)) ->> 0;
end
$$;

comment on function api.claim_reconciliation(p_interval_seconds integer) is
'Whether the caller is to compare payments with their providers now: true for one caller in p_interval_seconds.';

create or replace function api.count_provider_calls()
returns TABLE(waiting bigint, gave_up bigint)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select sum(r.waiting)::bigint, sum(r.gave_up)::bigint
  from json_to_recordset(
    router.together(array(select a.rows from router.ask_all('count_provider_calls', jsonb_build_object()) a))
  ) as r (waiting bigint, gave_up bigint);
end
$$;

comment on function api.count_provider_calls() is
'How many calls to payment providers are still to be made, and how many were given up.';

create or replace function api.count_watchers(
  p_process_id uuid,
  p_streams integer,
  OUT watchers bigint,
  OUT as_of timestamp with time zone
)
returns record
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  select r.* into watchers, as_of
  from json_to_recordset(
    router.ask_first('count_watchers', jsonb_build_object('p_process_id', p_process_id, 'p_streams', p_streams))
  ) as r (watchers bigint, as_of timestamp with time zone);
end
$$;

comment on function api.count_watchers(p_process_id uuid, p_streams integer, OUT watchers bigint, OUT as_of timestamp with time zone) is
'Note how many streams a process has open, and return how many all processes have. A process that says nothing for 20 seconds is forgotten.';

create or replace function api.create_stream_ticket(p_user_id uuid)
returns TABLE(ticket text, expires_at timestamp with time zone)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select r.*
  from json_to_recordset(
    router.ask_first('create_stream_ticket', jsonb_build_object('p_user_id', p_user_id))
  ) as r (ticket text, expires_at timestamp with time zone);
end
$$;

comment on function api.create_stream_ticket(p_user_id uuid) is
'Make a ticket with which a stream gets the events that are for this user alone. It is good for 60 seconds.';

create or replace function api.expire_payments(p_limit integer DEFAULT 1000)
returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return (select sum(e.value::text::integer) from json_array_elements(router.together(array(select a.rows from router.ask_all('expire_payments', jsonb_build_object('p_limit', p_limit)) a))) e where e.value::text <> 'null');
end
$$;

comment on function api.expire_payments(p_limit integer) is
'Cancel at most p_limit purchases whose payment is due, give their units back and return how many. If it returns fewer than
p_limit, nothing more is due, or another transaction has locked the rest.';

create or replace function api.expire_reservations(p_limit integer DEFAULT 1000)
returns SETOF api.reservation_row
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return query
  select r.*
  from json_populate_recordset(
    null::api.reservation_row,
    router.together(array(select a.rows from router.ask_all('expire_reservations', jsonb_build_object('p_limit', p_limit)) a))
  ) r;
end
$$;

comment on function api.expire_reservations(p_limit integer) is
'Expire at most p_limit due reservations, give their units back and return the reservations. If it returns fewer than p_limit,
nothing more is due, or another transaction has locked the rest.';

create or replace function api.extend_reservation(
  p_reservation_id uuid,
  p_user_id uuid,
  p_idempotency_key text DEFAULT NULL::text
)
returns TABLE(reservation api.reservation_row, replayed boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return query
  select r.*
  from json_to_recordset(
    router.ask(router.node_of(p_reservation_id), 'extend_reservation', jsonb_build_object('p_reservation_id', p_reservation_id, 'p_user_id', p_user_id, 'p_idempotency_key', p_idempotency_key))
  ) as r (reservation api.reservation_row, replayed boolean);
end
$$;

comment on function api.extend_reservation(p_reservation_id uuid, p_user_id uuid, p_idempotency_key text) is
'Let a user''s ACTIVE reservation end later by extension_seconds of its drop, once, and return it. A repeated call changes nothing
and returns the reservation with replayed true. select (reservation).*, replayed from api.extend_reservation(''…'', ''…'');';

create or replace function api.fail_provider_call(p_id uuid, p_error text, p_is_final boolean DEFAULT false)
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  perform router.ask(router.node_of(p_id), 'fail_provider_call', jsonb_build_object('p_id', p_id, 'p_error', p_error, 'p_is_final', p_is_final));
end
$$;

comment on function api.fail_provider_call(p_id uuid, p_error text, p_is_final boolean) is
'Note that a call to a payment provider failed, and why. It is tried again later, or given up if p_is_final or after 20
attempts.';

create or replace function api.fan_out_webhooks(p_limit integer)
returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return (select sum(e.value::text::integer) from json_array_elements(router.together(array(select a.rows from router.ask_all('fan_out_webhooks', jsonb_build_object('p_limit', p_limit)) a))) e where e.value::text <> 'null');
end
$$;

comment on function api.fan_out_webhooks(p_limit integer) is
'Make a delivery of each of the next p_limit messages for each webhook endpoint that wants it. Returns how many there were.';

create or replace function api.finish_provider_call(
  p_id uuid,
  p_provider_reference text DEFAULT NULL::text,
  p_client_secret text DEFAULT NULL::text,
  p_url text DEFAULT NULL::text
)
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  perform router.ask(router.node_of(p_id), 'finish_provider_call', jsonb_build_object('p_id', p_id, 'p_provider_reference', p_provider_reference, 'p_client_secret', p_client_secret, 'p_url', p_url));
end
$$;

comment on function api.finish_provider_call(p_id uuid, p_provider_reference text, p_client_secret text, p_url text) is
'Note that a call to a payment provider was made, and the payment''s id and client secret or URL there, if it was created.';

create or replace function api.finish_webhook_deliveries(
  p_endpoint_id uuid,
  p_lane uuid,
  p_lease uuid,
  p_results json,
  p_is_gone boolean
)
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  perform router.ask(router.node_of(p_lane), 'finish_webhook_deliveries', jsonb_build_object('p_endpoint_id', p_endpoint_id, 'p_lane', p_lane, 'p_lease', p_lease, 'p_results', p_results, 'p_is_gone', p_is_gone));
end
$$;

comment on function api.finish_webhook_deliveries(p_endpoint_id uuid, p_lane uuid, p_lease uuid, p_results json, p_is_gone boolean) is
'Note what became of the deliveries of a lane, and let it be due when it is to be tried again.';

create or replace function api.get_basket(p_basket_id uuid, p_user_id uuid)
returns SETOF api.basket_row
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select r.*
  from json_populate_recordset(
    null::api.basket_row,
    router.ask(router.node_of(p_basket_id), 'get_basket', jsonb_build_object('p_basket_id', p_basket_id, 'p_user_id', p_user_id))
  ) r;
end
$$;

comment on function api.get_basket(p_basket_id uuid, p_user_id uuid) is
'Return one of a user''s baskets, with its reservations as they are now.';

create or replace function api.get_drop(p_drop_id uuid, p_drafts boolean DEFAULT true)
returns SETOF api.drop_row
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select r.*
  from json_populate_recordset(
    null::api.drop_row,
    router.ask(router.node_of(p_drop_id), 'get_drop', jsonb_build_object('p_drop_id', p_drop_id, 'p_drafts', p_drafts))
  ) r;
end
$$;

comment on function api.get_drop(p_drop_id uuid, p_drafts boolean) is
'Return one drop, in any status. A draft is found by a seller only, and not with p_drafts false.';

create or replace function api.get_payment(p_payment_id uuid, p_user_id uuid)
returns SETOF api.payment_row
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select r.*
  from json_populate_recordset(
    null::api.payment_row,
    router.ask(router.node_of(p_payment_id), 'get_payment', jsonb_build_object('p_payment_id', p_payment_id, 'p_user_id', p_user_id))
  ) r;
end
$$;

comment on function api.get_payment(p_payment_id uuid, p_user_id uuid) is
'Return a payment to its buyer: its status, its amount and what to pay with.
select * from api.get_payment(''<payment>'', ''<user>'');';

create or replace function api.get_purchase(p_purchase_id uuid, p_user_id uuid)
returns SETOF api.purchase_row
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select r.*
  from json_populate_recordset(
    null::api.purchase_row,
    router.ask(router.node_of(p_purchase_id), 'get_purchase', jsonb_build_object('p_purchase_id', p_purchase_id, 'p_user_id', p_user_id))
  ) r;
end
$$;

comment on function api.get_purchase(p_purchase_id uuid, p_user_id uuid) is
'Return a purchase to its user, or to the user who made the drop.';

create or replace function api.get_reservation(p_reservation_id uuid, p_user_id uuid)
returns SETOF api.reservation_row
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select r.*
  from json_populate_recordset(
    null::api.reservation_row,
    router.ask(router.node_of(p_reservation_id), 'get_reservation', jsonb_build_object('p_reservation_id', p_reservation_id, 'p_user_id', p_user_id))
  ) r;
end
$$;

comment on function api.get_reservation(p_reservation_id uuid, p_user_id uuid) is
'Return a reservation to its user, or to the user who made the drop.';

create or replace function api.get_webhook_endpoint(p_endpoint_id uuid)
returns SETOF api.webhook_endpoint_row
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select r.*
  from json_populate_recordset(
    null::api.webhook_endpoint_row,
    router.ask_first('get_webhook_endpoint', jsonb_build_object('p_endpoint_id', p_endpoint_id))
  ) r;
end
$$;

comment on function api.get_webhook_endpoint(p_endpoint_id uuid) is
'Return a webhook endpoint, without its secret.';

create or replace function api.history(
  p_drop_id uuid,
  p_limit integer DEFAULT 50,
  p_before bigint DEFAULT NULL::bigint
)
returns TABLE(
  id bigint,
  at timestamp with time zone,
  action text,
  user_id uuid,
  username text,
  db_user text,
  details jsonb
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select r.*
  from json_to_recordset(
    router.ask(router.node_of(p_drop_id), 'history', jsonb_build_object('p_drop_id', p_drop_id, 'p_limit', p_limit, 'p_before', p_before))
  ) as r (id bigint, at timestamp with time zone, action text, user_id uuid, username text, db_user text, details jsonb);
end
$$;

comment on function api.history(p_drop_id uuid, p_limit integer, p_before bigint) is
'Show who did what to a drop, the newest first: p_limit rows, of ids less than p_before.';

create or replace function api.list_drops(
  p_status text DEFAULT NULL::text,
  p_limit integer DEFAULT 50,
  p_after uuid DEFAULT NULL::uuid,
  p_after_at timestamp with time zone DEFAULT NULL::timestamp with time zone
)
returns TABLE(
  id uuid,
  name text,
  price numeric,
  currency text,
  total_stock integer,
  available_stock integer,
  variants api.variant_row[],
  starts_at timestamp with time zone,
  ends_at timestamp with time zone,
  status text,
  paused_at timestamp with time zone,
  limit_per_user integer,
  hold_seconds integer,
  rehold_after_seconds integer,
  extension_seconds integer,
  revision integer,
  created_by uuid,
  "createdAt" timestamp with time zone,
  "updatedAt" timestamp with time zone,
  image_url text,
  activity_feed json
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select r.*
  from json_to_recordset(
    router.page('list_drops', jsonb_build_object('p_status', p_status, 'p_limit', p_limit, 'p_after', p_after, 'p_after_at', p_after_at))
  ) as r (id uuid, name text, price numeric, currency text, total_stock integer, available_stock integer, variants api.variant_row[], starts_at timestamp with time zone, ends_at timestamp with time zone, status text, paused_at timestamp with time zone, limit_per_user integer, hold_seconds integer, rehold_after_seconds integer, extension_seconds integer, revision integer, created_by uuid, "createdAt" timestamp with time zone, "updatedAt" timestamp with time zone, image_url text, activity_feed json)
  order by starts_at desc nulls first, id desc
  limit greatest(p_limit, 1);
end
$$;

comment on function api.list_drops(p_status text, p_limit integer, p_after uuid, p_after_at timestamp with time zone) is
'List the drops on sale now, or those with p_status (by the clock), the newest start first: p_limit of them, after the one whose id
is p_after, each with its three latest purchasers and the number of units held. p_after_at is the start of that
drop when it was read, or infinity.';

create or replace function api.list_payments(
  p_drop_id uuid DEFAULT NULL::uuid,
  p_statuses text[] DEFAULT NULL::text[],
  p_limit integer DEFAULT 50,
  p_after uuid DEFAULT NULL::uuid,
  p_after_at timestamp with time zone DEFAULT NULL::timestamp with time zone
)
returns TABLE(
  id uuid,
  drop_id uuid,
  basket_id uuid,
  user_id uuid,
  amount numeric,
  currency text,
  status text,
  refunded_amount numeric,
  provider text,
  provider_reference text,
  expires_at timestamp with time zone,
  paid_at timestamp with time zone,
  "createdAt" timestamp with time zone,
  "updatedAt" timestamp with time zone,
  username text
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select r.*
  from json_to_recordset(
    case when p_drop_id is null
      then router.page('list_payments', jsonb_build_object('p_drop_id', p_drop_id, 'p_statuses', p_statuses, 'p_limit', p_limit, 'p_after', p_after, 'p_after_at', p_after_at))
      else router.ask(router.node_of(p_drop_id), 'list_payments', jsonb_build_object('p_drop_id', p_drop_id, 'p_statuses', p_statuses, 'p_limit', p_limit, 'p_after', p_after, 'p_after_at', p_after_at))
    end
  ) as r (id uuid, drop_id uuid, basket_id uuid, user_id uuid, amount numeric, currency text, status text, refunded_amount numeric, provider text, provider_reference text, expires_at timestamp with time zone, paid_at timestamp with time zone, "createdAt" timestamp with time zone, "updatedAt" timestamp with time zone, username text)
  order by "createdAt" desc, id desc
  limit greatest(p_limit, 1);
end
$$;

comment on function api.list_payments(p_drop_id uuid, p_statuses text[], p_limit integer, p_after uuid, p_after_at timestamp with time zone) is
'List payments, of a drop or of all, the newest first: p_limit of them, after the one whose id is p_after; only those in
p_statuses, if given. p_after_at is for a router.';

create or replace function api.list_provider_calls(
  p_drop_id uuid DEFAULT NULL::uuid,
  p_limit integer DEFAULT 50,
  p_after uuid DEFAULT NULL::uuid,
  p_after_at timestamp with time zone DEFAULT NULL::timestamp with time zone
)
returns SETOF api.provider_call_row
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select r.*
  from json_populate_recordset(
    null::api.provider_call_row,
    case when p_drop_id is null
      then router.page('list_provider_calls', jsonb_build_object('p_drop_id', p_drop_id, 'p_limit', p_limit, 'p_after', p_after, 'p_after_at', p_after_at))
      else router.ask(router.node_of(p_drop_id), 'list_provider_calls', jsonb_build_object('p_drop_id', p_drop_id, 'p_limit', p_limit, 'p_after', p_after, 'p_after_at', p_after_at))
    end
  ) r
  order by done_at is not null, id desc
  limit greatest(p_limit, 1);
end
$$;

comment on function api.list_provider_calls(p_drop_id uuid, p_limit integer, p_after uuid, p_after_at timestamp with time zone) is
'List what payment providers were or are to be told, of a drop or of all: what is open or given up first, the newest first: p_limit
of them, after the one whose id is p_after. p_after_at is when that one was done, or infinity.';

create or replace function api.list_purchases(
  p_drop_id uuid,
  p_status text DEFAULT NULL::text,
  p_variant_id uuid DEFAULT NULL::uuid,
  p_buyer_id uuid DEFAULT NULL::uuid,
  p_limit integer DEFAULT 50,
  p_after uuid DEFAULT NULL::uuid
)
returns TABLE(
  id uuid,
  drop_id uuid,
  variant_id uuid,
  reservation_id uuid,
  user_id uuid,
  qty integer,
  unit_price numeric,
  currency text,
  amount numeric,
  status text,
  refunded_amount numeric,
  refunded_at timestamp with time zone,
  "createdAt" timestamp with time zone,
  "updatedAt" timestamp with time zone,
  refunded_qty integer,
  payment_id uuid,
  username text,
  variant_name text
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select r.*
  from json_to_recordset(
    router.ask(router.node_of(p_drop_id), 'list_purchases', jsonb_build_object('p_drop_id', p_drop_id, 'p_status', p_status, 'p_variant_id', p_variant_id, 'p_buyer_id', p_buyer_id, 'p_limit', p_limit, 'p_after', p_after))
  ) as r (id uuid, drop_id uuid, variant_id uuid, reservation_id uuid, user_id uuid, qty integer, unit_price numeric, currency text, amount numeric, status text, refunded_amount numeric, refunded_at timestamp with time zone, "createdAt" timestamp with time zone, "updatedAt" timestamp with time zone, refunded_qty integer, payment_id uuid, username text, variant_name text);
end
$$;

comment on function api.list_purchases(p_drop_id uuid, p_status text, p_variant_id uuid, p_buyer_id uuid, p_limit integer, p_after uuid) is
'List who bought on a drop, the newest first: p_limit of them, after the one whose id is p_after; only those with p_status, of
p_variant_id or of p_buyer_id, if given.';

create or replace function api.list_reservations(
  p_drop_id uuid,
  p_status text DEFAULT NULL::text,
  p_variant_id uuid DEFAULT NULL::uuid,
  p_buyer_id uuid DEFAULT NULL::uuid,
  p_limit integer DEFAULT 50,
  p_after uuid DEFAULT NULL::uuid
)
returns TABLE(
  id uuid,
  drop_id uuid,
  variant_id uuid,
  user_id uuid,
  basket_id uuid,
  qty integer,
  unit_price numeric,
  currency text,
  amount numeric,
  status text,
  expires_at timestamp with time zone,
  extended_at timestamp with time zone,
  "createdAt" timestamp with time zone,
  "updatedAt" timestamp with time zone,
  username text,
  variant_name text
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select r.*
  from json_to_recordset(
    router.ask(router.node_of(p_drop_id), 'list_reservations', jsonb_build_object('p_drop_id', p_drop_id, 'p_status', p_status, 'p_variant_id', p_variant_id, 'p_buyer_id', p_buyer_id, 'p_limit', p_limit, 'p_after', p_after))
  ) as r (id uuid, drop_id uuid, variant_id uuid, user_id uuid, basket_id uuid, qty integer, unit_price numeric, currency text, amount numeric, status text, expires_at timestamp with time zone, extended_at timestamp with time zone, "createdAt" timestamp with time zone, "updatedAt" timestamp with time zone, username text, variant_name text);
end
$$;

comment on function api.list_reservations(p_drop_id uuid, p_status text, p_variant_id uuid, p_buyer_id uuid, p_limit integer, p_after uuid) is
'List who holds, or held, units of a drop, the newest first: p_limit of them, after the one whose id is p_after; only those with
p_status (by the clock), of p_variant_id or of p_buyer_id, if given.';

create or replace function api.list_webhook_endpoints(
  p_limit integer DEFAULT 50,
  p_after uuid DEFAULT NULL::uuid,
  p_after_at timestamp with time zone DEFAULT NULL::timestamp with time zone
)
returns SETOF api.webhook_endpoint_row
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select r.*
  from json_populate_recordset(
    null::api.webhook_endpoint_row,
    router.ask_first('list_webhook_endpoints', jsonb_build_object('p_limit', p_limit, 'p_after', p_after, 'p_after_at', p_after_at))
  ) r;
end
$$;

comment on function api.list_webhook_endpoints(p_limit integer, p_after uuid, p_after_at timestamp with time zone) is
'List the webhook endpoints, the newest first: p_limit of them, after the one whose id is p_after. p_after_at is the time of that one.';

create or replace function api.my_purchases(
  p_user_id uuid,
  p_limit integer DEFAULT 50,
  p_after uuid DEFAULT NULL::uuid,
  p_after_at timestamp with time zone DEFAULT NULL::timestamp with time zone
)
returns SETOF api.purchase_row
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select r.*
  from json_populate_recordset(
    null::api.purchase_row,
    router.page('my_purchases', jsonb_build_object('p_user_id', p_user_id, 'p_limit', p_limit, 'p_after', p_after, 'p_after_at', p_after_at))
  ) r
  order by "createdAt" desc, id desc
  limit greatest(p_limit, 1);
end
$$;

comment on function api.my_purchases(p_user_id uuid, p_limit integer, p_after uuid, p_after_at timestamp with time zone) is
'List a user''s purchases, the newest first: p_limit of them, after the one whose id is p_after. p_after_at
is the time of that one.';

create or replace function api.my_reservations(
  p_user_id uuid,
  p_limit integer DEFAULT 50,
  p_after uuid DEFAULT NULL::uuid,
  p_after_at timestamp with time zone DEFAULT NULL::timestamp with time zone
)
returns SETOF api.reservation_row
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select r.*
  from json_populate_recordset(
    null::api.reservation_row,
    router.page('my_reservations', jsonb_build_object('p_user_id', p_user_id, 'p_limit', p_limit, 'p_after', p_after, 'p_after_at', p_after_at))
  ) r
  order by "createdAt" desc, id desc
  limit greatest(p_limit, 1);
end
$$;

comment on function api.my_reservations(p_user_id uuid, p_limit integer, p_after uuid, p_after_at timestamp with time zone) is
'List a user''s ACTIVE reservations that have not run out, the newest first: p_limit of them, after the one whose id is p_after.
p_after_at is the time of that one.';

create or replace function api.prune_events(p_retention_seconds integer, p_limit integer DEFAULT 10000)
returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return (select sum(e.value::text::bigint) from json_array_elements(router.together(array(select a.rows from router.ask_all('prune_events', jsonb_build_object('p_retention_seconds', p_retention_seconds, 'p_limit', p_limit)) a))) e where e.value::text <> 'null');
end
$$;

comment on function api.prune_events(p_retention_seconds integer, p_limit integer) is
'Delete events older than p_retention_seconds, the oldest first and at most p_limit, and return their number.';

create or replace function api.prune_idempotency_keys(p_retention_seconds integer)
returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return (select sum(e.value::text::bigint) from json_array_elements(router.together(array(select a.rows from router.ask_all('prune_idempotency_keys', jsonb_build_object('p_retention_seconds', p_retention_seconds)) a))) e where e.value::text <> 'null');
end
$$;

comment on function api.prune_idempotency_keys(p_retention_seconds integer) is
'Delete the Idempotency-Keys of rare requests that are older than p_retention_seconds, and return their number.';

create or replace function api.prune_webhooks(p_retention_seconds integer, p_limit integer)
returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return (select sum(e.value::text::bigint) from json_array_elements(router.together(array(select a.rows from router.ask_all('prune_webhooks', jsonb_build_object('p_retention_seconds', p_retention_seconds, 'p_limit', p_limit)) a))) e where e.value::text <> 'null');
end
$$;

comment on function api.prune_webhooks(p_retention_seconds integer, p_limit integer) is
'Delete messages for webhooks that are older than p_retention_seconds, at most p_limit, with their deliveries. Returns how many.';

create or replace function api.purchase(
  p_drop_id uuid,
  p_user_id uuid,
  p_idempotency_key text DEFAULT NULL::text,
  p_reservation_id uuid DEFAULT NULL::uuid
)
returns TABLE(
  id uuid,
  drop_id uuid,
  variant_id uuid,
  reservation_id uuid,
  user_id uuid,
  qty integer,
  unit_price numeric,
  currency text,
  amount numeric,
  status text,
  refunded_amount numeric,
  refunded_at timestamp with time zone,
  "createdAt" timestamp with time zone,
  "updatedAt" timestamp with time zone,
  refunded_qty integer,
  payment_id uuid,
  replayed boolean
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return query
  select r.*
  from json_to_recordset(
    router.ask(router.node_of(p_drop_id), 'purchase', jsonb_build_object('p_drop_id', p_drop_id, 'p_user_id', p_user_id, 'p_idempotency_key', p_idempotency_key, 'p_reservation_id', p_reservation_id))
  ) as r (id uuid, drop_id uuid, variant_id uuid, reservation_id uuid, user_id uuid, qty integer, unit_price numeric, currency text, amount numeric, status text, refunded_amount numeric, refunded_at timestamp with time zone, "createdAt" timestamp with time zone, "updatedAt" timestamp with time zone, refunded_qty integer, payment_id uuid, replayed boolean);
end
$$;

comment on function api.purchase(p_drop_id uuid, p_user_id uuid, p_idempotency_key text, p_reservation_id uuid) is
'Purchase what a user holds on a drop, as p_reservation_id if there are several holds, and return the purchase. A repeated p_idempotency_key returns the first purchase
as it is now, with replayed true. select * from api.purchase(p_drop_id => ''…'', p_user_id => ''…'');';

create or replace function api.purchase_basket(p_basket_id uuid, p_user_id uuid, p_idempotency_key text DEFAULT NULL::text)
returns TABLE(purchase api.purchase_row, replayed boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return query
  select r.*
  from json_to_recordset(
    router.ask(router.node_of(p_basket_id), 'purchase_basket', jsonb_build_object('p_basket_id', p_basket_id, 'p_user_id', p_user_id, 'p_idempotency_key', p_idempotency_key))
  ) as r (purchase api.purchase_row, replayed boolean);
end
$$;

comment on function api.purchase_basket(p_basket_id uuid, p_user_id uuid, p_idempotency_key text) is
'Buy all that a user holds in a basket, or nothing, and return the purchases in the order of its items. A repeated call returns
the first purchases as they are now, with replayed true.
select (purchase).*, replayed from api.purchase_basket(''<basket>'', ''<user>'');';

create or replace function api.purchase_batch(p_requests api.purchase_request[])
returns SETOF api.outcome
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return query select o.* from router.batch('purchase_batch', jsonb_build_object('p_requests', p_requests), array(select q.drop_id from unnest(p_requests) with ordinality q order by q.ordinality)) o;
end
$$;

comment on function api.purchase_batch(p_requests api.purchase_request[]) is
'Purchase what each user holds, in the order given. The answer has one row a request: n is its place in p_requests, status the
HTTP status, code and message say why it is refused. With several drops no lock is waited for longer than 100 ms (55P03).
select * from api.purchase_batch(array[row(''<drop>'', ''<user>'', ''<key or null>'', ''<reservation or null>'')]::api.purchase_request[]);';

create or replace function api.refund_drop(
  p_drop_id uuid,
  p_limit integer DEFAULT 1000,
  p_refunded_by uuid DEFAULT NULL::uuid
)
returns TABLE(refunded integer, remaining bigint)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return query
  select r.*
  from json_to_recordset(
    router.ask(router.node_of(p_drop_id), 'refund_drop', jsonb_build_object('p_drop_id', p_drop_id, 'p_limit', p_limit, 'p_refunded_by', p_refunded_by))
  ) as r (refunded integer, remaining bigint);
end
$$;

comment on function api.refund_drop(p_drop_id uuid, p_limit integer, p_refunded_by uuid) is
'Refund up to p_limit paid purchases of a drop that is cancelled or over, and return how many were refunded and how many remain. Call
it until none remain.';

create or replace function api.refund_purchase(
  p_purchase_id uuid,
  p_refunded_by uuid DEFAULT NULL::uuid,
  p_idempotency_key text DEFAULT NULL::text,
  p_qty integer DEFAULT NULL::integer
)
returns SETOF api.purchase_row
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return query
  select r.*
  from json_populate_recordset(
    null::api.purchase_row,
    router.ask(router.node_of(p_purchase_id), 'refund_purchase', jsonb_build_object('p_purchase_id', p_purchase_id, 'p_refunded_by', p_refunded_by, 'p_idempotency_key', p_idempotency_key, 'p_qty', p_qty))
  ) r;
end
$$;

comment on function api.refund_purchase(p_purchase_id uuid, p_refunded_by uuid, p_idempotency_key text, p_qty integer) is
'Refund a paid purchase, or p_qty of its units, give the units back to stock and return it. p_refunded_by is noted in the history.
A repeated request with the same p_idempotency_key returns the purchase.';

create or replace function api.refund_purchase_outcome(
  p_purchase_id uuid,
  p_refunded_by uuid,
  p_idempotency_key text,
  p_qty integer DEFAULT NULL::integer
)
returns SETOF api.outcome
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return query
  select r.*
  from json_populate_recordset(
    null::api.outcome,
    router.ask(router.node_of(p_purchase_id), 'refund_purchase_outcome', jsonb_build_object('p_purchase_id', p_purchase_id, 'p_refunded_by', p_refunded_by, 'p_idempotency_key', p_idempotency_key, 'p_qty', p_qty))
  ) r;
end
$$;

comment on function api.refund_purchase_outcome(p_purchase_id uuid, p_refunded_by uuid, p_idempotency_key text, p_qty integer) is
'Refund a purchase as api.refund_purchase does. The outcome says whether the Idempotency-Key came before.';

create or replace function api.replay_webhook_delivery(
  p_delivery_id uuid,
  p_replayed_by uuid DEFAULT NULL::uuid,
  p_idempotency_key text DEFAULT NULL::text
)
returns TABLE(replayed boolean, delivery api.webhook_delivery_row)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return query
  select r.*
  from json_to_recordset(
    router.ask(router.node_of(p_delivery_id), 'replay_webhook_delivery', jsonb_build_object('p_delivery_id', p_delivery_id, 'p_replayed_by', p_replayed_by, 'p_idempotency_key', p_idempotency_key))
  ) as r (replayed boolean, delivery api.webhook_delivery_row);
end
$$;

comment on function api.replay_webhook_delivery(p_delivery_id uuid, p_replayed_by uuid, p_idempotency_key text) is
'Send a message to its webhook endpoint once more.';

create or replace function api.reservation_history(p_reservation_id uuid, p_user_id uuid)
returns TABLE(at timestamp with time zone, action text, user_id uuid, details jsonb)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select r.*
  from json_to_recordset(
    router.ask(router.node_of(p_reservation_id), 'reservation_history', jsonb_build_object('p_reservation_id', p_reservation_id, 'p_user_id', p_user_id))
  ) as r (at timestamp with time zone, action text, user_id uuid, details jsonb);
end
$$;

comment on function api.reservation_history(p_reservation_id uuid, p_user_id uuid) is
'Show what became of a reservation, to its user or to the user who made the drop: who did what when, the oldest first.';

create or replace function api.reserve(
  p_drop_id uuid,
  p_user_id uuid,
  p_idempotency_key text DEFAULT NULL::text,
  p_ttl_seconds integer DEFAULT 60,
  p_variant_id uuid DEFAULT NULL::uuid,
  p_qty integer DEFAULT 1
)
returns TABLE(
  id uuid,
  drop_id uuid,
  variant_id uuid,
  user_id uuid,
  basket_id uuid,
  qty integer,
  unit_price numeric,
  currency text,
  amount numeric,
  status text,
  expires_at timestamp with time zone,
  extended_at timestamp with time zone,
  "createdAt" timestamp with time zone,
  "updatedAt" timestamp with time zone,
  replayed boolean
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return query
  select r.*
  from json_to_recordset(
    router.ask(router.node_of(p_drop_id), 'reserve', jsonb_build_object('p_drop_id', p_drop_id, 'p_user_id', p_user_id, 'p_idempotency_key', p_idempotency_key, 'p_ttl_seconds', p_ttl_seconds, 'p_variant_id', p_variant_id, 'p_qty', p_qty))
  ) as r (id uuid, drop_id uuid, variant_id uuid, user_id uuid, basket_id uuid, qty integer, unit_price numeric, currency text, amount numeric, status text, expires_at timestamp with time zone, extended_at timestamp with time zone, "createdAt" timestamp with time zone, "updatedAt" timestamp with time zone, replayed boolean);
end
$$;

comment on function api.reserve(p_drop_id uuid, p_user_id uuid, p_idempotency_key text, p_ttl_seconds integer, p_variant_id uuid, p_qty integer) is
'Hold p_qty units of a drop, or of its variant p_variant_id, for a user and return the reservation. It lasts hold_seconds of the
drop, or else p_ttl_seconds. A repeated p_idempotency_key returns the first reservation as it is now, with replayed true. select * from api.reserve(p_drop_id => ''…'', p_user_id => ''…'');';

create or replace function api.reserve_batch(p_requests api.reserve_request[], p_ttl_seconds integer DEFAULT 60)
returns SETOF api.outcome
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return query select o.* from router.batch('reserve_batch', jsonb_build_object('p_requests', p_requests, 'p_ttl_seconds', p_ttl_seconds), array(select q.drop_id from unnest(p_requests) with ordinality q order by q.ordinality)) o;
end
$$;

comment on function api.reserve_batch(p_requests api.reserve_request[], p_ttl_seconds integer) is
'Hold units for each request, in the order given. The answer has one row a request: n is its place in p_requests, status the HTTP
status, code and message say why it is refused. A hold lasts p_ttl_seconds, or hold_seconds of the drop. With several drops no lock
is waited for longer than 100 ms (55P03). select * from api.reserve_batch(
array[row(''<drop>'', ''<user>'', ''<key or null>'', ''<variant or null>'', 1)]::api.reserve_request[]);';

create or replace function api.retry_provider_call(p_id uuid)
returns SETOF api.provider_call_row
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return query
  select r.*
  from json_populate_recordset(
    null::api.provider_call_row,
    router.ask(router.node_of(p_id), 'retry_provider_call', jsonb_build_object('p_id', p_id))
  ) r;
end
$$;

comment on function api.retry_provider_call(p_id uuid) is
'Try a call to a payment provider again that was given up, or that waits after an error, and return it.';

create or replace function api.send_test_webhook(
  p_endpoint_id uuid,
  p_sent_by uuid DEFAULT NULL::uuid,
  p_idempotency_key text DEFAULT NULL::text
)
returns TABLE(replayed boolean, delivery api.webhook_delivery_row)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return query
  select r.*
  from json_to_recordset(
    router.ask((router.all_nodes())[1], 'send_test_webhook', jsonb_build_object('p_endpoint_id', p_endpoint_id, 'p_sent_by', p_sent_by, 'p_idempotency_key', p_idempotency_key))
  ) as r (replayed boolean, delivery api.webhook_delivery_row);
end
$$;

comment on function api.send_test_webhook(p_endpoint_id uuid, p_sent_by uuid, p_idempotency_key text) is
'Send a message of the type webhook.test to a webhook endpoint.';

create or replace function api.take_webhook_deliveries(p_busy uuid[], p_lanes integer, p_limit integer, p_lease_seconds integer)
returns TABLE(
  endpoint_id uuid,
  lane uuid,
  lease uuid,
  url text,
  secrets text[],
  delivery_id uuid,
  webhook_id uuid,
  body text
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return query
  select r.*
  from json_to_recordset(
    router.together(array(select a.rows from router.ask_all('take_webhook_deliveries', jsonb_build_object('p_busy', p_busy, 'p_lanes', p_lanes, 'p_limit', p_limit, 'p_lease_seconds', p_lease_seconds)) a))
  ) as r (endpoint_id uuid, lane uuid, lease uuid, url text, secrets text[], delivery_id uuid, webhook_id uuid, body text);
end
$$;

comment on function api.take_webhook_deliveries(p_busy uuid[], p_lanes integer, p_limit integer, p_lease_seconds integer) is
'Lease lanes of webhook deliveries that are due, and return what is to be sent: p_limit deliveries of each lane.';

create or replace function api.unsettled_payments(
  p_older_than_seconds integer DEFAULT 0,
  p_after uuid DEFAULT NULL::uuid,
  p_limit integer DEFAULT 100
)
returns SETOF api.payment_row
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select r.*
  from json_populate_recordset(
    null::api.payment_row,
    router.together(array(select a.rows from router.ask_all('unsettled_payments', jsonb_build_object('p_older_than_seconds', p_older_than_seconds, 'p_after', p_after, 'p_limit', p_limit)) a))
  ) r
  order by id
  limit greatest(p_limit, 1);
end
$$;

comment on function api.unsettled_payments(p_older_than_seconds integer, p_after uuid, p_limit integer) is
'List payments that a provider may know better, for reconciliation: p_limit of them, after the id p_after, that did not change
within p_older_than_seconds.';

create or replace function api.update_drop(
  p_drop_id uuid,
  p_changes jsonb,
  p_if_revision integer DEFAULT NULL::integer,
  p_changed_by uuid DEFAULT NULL::uuid
)
returns SETOF api.drop_row
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform router.refuse_block();
  return query
  select r.*
  from json_populate_recordset(
    null::api.drop_row,
    router.ask(router.node_of(p_drop_id), 'update_drop', jsonb_build_object('p_drop_id', p_drop_id, 'p_changes', p_changes, 'p_if_revision', p_if_revision, 'p_changed_by', p_changed_by))
  ) r;
end
$$;

comment on function api.update_drop(p_drop_id uuid, p_changes jsonb, p_if_revision integer, p_changed_by uuid) is
'Change a drop and return it. p_changes holds any of name, price, starts_at, ends_at, status, total_stock or add_stock or variants,
paused, limit_per_user, hold_seconds, rehold_after_seconds, extension_seconds, image_url; null clears a time, a term or the
picture. Cancelling releases every hold. With p_if_revision the drop is changed only if it has that revision. select * from api.update_drop(''…'', ''{"status": "live"}'');';

create or replace function api.webhook_backlog()
returns TABLE(pending bigint, lag_seconds double precision, disabled bigint)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select sum(r.pending)::bigint, max(r.lag_seconds)::double precision, max(r.disabled)::bigint
  from json_to_recordset(
    router.together(array(select a.rows from router.ask_all('webhook_backlog', jsonb_build_object()) a))
  ) as r (pending bigint, lag_seconds double precision, disabled bigint);
end
$$;

comment on function api.webhook_backlog() is
'Say how much waits to be sent to webhook endpoints, for how long, and how many are disabled.';
