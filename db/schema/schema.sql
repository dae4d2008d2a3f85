\restrict dbmate

-- Dumped from database version 18.6
-- Dumped by pg_dump version 18.6

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: api; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA api;


--
-- Name: SCHEMA api; Type: COMMENT; Schema: -; Owner: -
--

COMMENT ON SCHEMA api IS 'The public functions and the row types they return. \df+ api.* explains each one.';


--
-- Name: inventory; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA inventory;


--
-- Name: SCHEMA inventory; Type: COMMENT; Schema: -; Owner: -
--

COMMENT ON SCHEMA inventory IS 'Tables, private functions and triggers. Only the owner may use it.';


--
-- Name: basket_item; Type: TYPE; Schema: api; Owner: -
--

CREATE TYPE api.basket_item AS (
	drop_id uuid,
	variant_id uuid,
	qty integer
);


--
-- Name: TYPE basket_item; Type: COMMENT; Schema: api; Owner: -
--

COMMENT ON TYPE api.basket_item IS 'One item of api.reserve_basket: qty units (null: 1) of drop_id, of its variant_id if it has variants.';


--
-- Name: basket_request; Type: TYPE; Schema: api; Owner: -
--

CREATE TYPE api.basket_request AS (
	user_id uuid,
	items api.basket_item[],
	idempotency_key text
);


--
-- Name: TYPE basket_request; Type: COMMENT; Schema: api; Owner: -
--

COMMENT ON TYPE api.basket_request IS 'One request of api.reserve_basket_batch: hold all of the items for user_id, or none. Without a key it is null.';


--
-- Name: reservation_row; Type: TYPE; Schema: api; Owner: -
--

CREATE TYPE api.reservation_row AS (
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


--
-- Name: basket_row; Type: TYPE; Schema: api; Owner: -
--

CREATE TYPE api.basket_row AS (
	id uuid,
	user_id uuid,
	reservations api.reservation_row[],
	amounts jsonb,
	expires_at timestamp with time zone,
	"createdAt" timestamp with time zone
);


--
-- Name: TYPE basket_row; Type: COMMENT; Schema: api; Owner: -
--

COMMENT ON TYPE api.basket_row IS 'A basket. Its reservations have the order of its items. amounts has their cost by currency, expires_at is when the first ends.';


--
-- Name: cancel_request; Type: TYPE; Schema: api; Owner: -
--

CREATE TYPE api.cancel_request AS (
	reservation_id uuid,
	user_id uuid
);


--
-- Name: TYPE cancel_request; Type: COMMENT; Schema: api; Owner: -
--

COMMENT ON TYPE api.cancel_request IS 'One request of api.cancel_batch: give back the unit that user_id holds as reservation_id.';


--
-- Name: drop; Type: TYPE; Schema: api; Owner: -
--

CREATE TYPE api.drop AS (
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


--
-- Name: TYPE drop; Type: COMMENT; Schema: api; Owner: -
--

COMMENT ON TYPE api.drop IS 'Unused since 0.3, see api.drop_row. The next release drops it.';


--
-- Name: variant_row; Type: TYPE; Schema: api; Owner: -
--

CREATE TYPE api.variant_row AS (
	id uuid,
	name text,
	price numeric,
	total_stock integer,
	available_stock integer
);


--
-- Name: TYPE variant_row; Type: COMMENT; Schema: api; Owner: -
--

COMMENT ON TYPE api.variant_row IS 'A size or tier of a drop. price is what a unit costs, the drop''s if the variant has none.';


--
-- Name: drop_row; Type: TYPE; Schema: api; Owner: -
--

CREATE TYPE api.drop_row AS (
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


--
-- Name: event; Type: TYPE; Schema: api; Owner: -
--

CREATE TYPE api.event AS (
	type text,
	id text,
	data json
);


--
-- Name: TYPE event; Type: COMMENT; Schema: api; Owner: -
--

COMMENT ON TYPE api.event IS 'Unused since 0.2, where functions return the drop of an event, too. The next release drops it.';


--
-- Name: outcome; Type: TYPE; Schema: api; Owner: -
--

CREATE TYPE api.outcome AS (
	n integer,
	status integer,
	code text,
	message text,
	replayed boolean,
	data json
);


--
-- Name: TYPE outcome; Type: COMMENT; Schema: api; Owner: -
--

COMMENT ON TYPE api.outcome IS 'The outcome of request number n of a batch: HTTP status; code and message if it was refused; data, a row, if it was carried out.';


--
-- Name: payment_event; Type: TYPE; Schema: api; Owner: -
--

CREATE TYPE api.payment_event AS (
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


--
-- Name: TYPE payment_event; Type: COMMENT; Schema: api; Owner: -
--

COMMENT ON TYPE api.payment_event IS 'What a provider told about a payment: that it was paid, failed, cancelled or refunded. refunded_amount is what was given back so far in all.';


--
-- Name: payment_row; Type: TYPE; Schema: api; Owner: -
--

CREATE TYPE api.payment_row AS (
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


--
-- Name: TYPE payment_row; Type: COMMENT; Schema: api; Owner: -
--

COMMENT ON TYPE api.payment_row IS 'A payment by the clock: one that was not paid in time is cancelled. client_secret and url are null once it has ended.';


--
-- Name: provider_call; Type: TYPE; Schema: api; Owner: -
--

CREATE TYPE api.provider_call AS (
	id uuid,
	payment_id uuid,
	drop_id uuid,
	action text,
	amount numeric,
	attempts integer,
	payment api.payment_row
);


--
-- Name: TYPE provider_call; Type: COMMENT; Schema: api; Owner: -
--

COMMENT ON TYPE api.provider_call IS 'A call that a worker has leased: create, cancel or refund the payment at its provider.';


--
-- Name: provider_call_row; Type: TYPE; Schema: api; Owner: -
--

CREATE TYPE api.provider_call_row AS (
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


--
-- Name: TYPE provider_call_row; Type: COMMENT; Schema: api; Owner: -
--

COMMENT ON TYPE api.provider_call_row IS 'A call to a provider as its seller sees it. status is open, done or given_up.';


--
-- Name: purchase; Type: TYPE; Schema: api; Owner: -
--

CREATE TYPE api.purchase AS (
	id uuid,
	drop_id uuid,
	reservation_id uuid,
	user_id uuid,
	qty integer,
	status text,
	"createdAt" timestamp with time zone,
	"updatedAt" timestamp with time zone
);


--
-- Name: TYPE purchase; Type: COMMENT; Schema: api; Owner: -
--

COMMENT ON TYPE api.purchase IS 'Unused since 0.3, see api.purchase_row. The next release drops it.';


--
-- Name: purchase_request; Type: TYPE; Schema: api; Owner: -
--

CREATE TYPE api.purchase_request AS (
	drop_id uuid,
	user_id uuid,
	idempotency_key text,
	reservation_id uuid
);


--
-- Name: TYPE purchase_request; Type: COMMENT; Schema: api; Owner: -
--

COMMENT ON TYPE api.purchase_request IS 'One request of api.purchase_batch: sell user_id what is held on drop_id as reservation_id (null: the one hold there is).';


--
-- Name: purchase_row; Type: TYPE; Schema: api; Owner: -
--

CREATE TYPE api.purchase_row AS (
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


--
-- Name: purchaser; Type: TYPE; Schema: api; Owner: -
--

CREATE TYPE api.purchaser AS (
	"userId" uuid,
	username text,
	qty integer,
	"createdAt" timestamp with time zone
);


--
-- Name: refused_item; Type: TYPE; Schema: api; Owner: -
--

CREATE TYPE api.refused_item AS (
	index integer,
	code text,
	message text
);


--
-- Name: TYPE refused_item; Type: COMMENT; Schema: api; Owner: -
--

COMMENT ON TYPE api.refused_item IS 'An item of a basket that cannot be held: its place in the items, from 0 on, and why.';


--
-- Name: reservation; Type: TYPE; Schema: api; Owner: -
--

CREATE TYPE api.reservation AS (
	id uuid,
	drop_id uuid,
	user_id uuid,
	status text,
	expires_at timestamp with time zone,
	"createdAt" timestamp with time zone,
	"updatedAt" timestamp with time zone
);


--
-- Name: TYPE reservation; Type: COMMENT; Schema: api; Owner: -
--

COMMENT ON TYPE api.reservation IS 'Unused since 0.3, see api.reservation_row. The next release drops it.';


--
-- Name: reserve_request; Type: TYPE; Schema: api; Owner: -
--

CREATE TYPE api.reserve_request AS (
	drop_id uuid,
	user_id uuid,
	idempotency_key text,
	variant_id uuid,
	qty integer
);


--
-- Name: TYPE reserve_request; Type: COMMENT; Schema: api; Owner: -
--

COMMENT ON TYPE api.reserve_request IS 'One request of api.reserve_batch: hold qty units (null: 1) of drop_id, of its variant_id if it has variants, for user_id.';


--
-- Name: user; Type: TYPE; Schema: api; Owner: -
--

CREATE TYPE api."user" AS (
	id uuid,
	username text,
	"createdAt" timestamp with time zone,
	"updatedAt" timestamp with time zone
);


--
-- Name: user_request; Type: TYPE; Schema: api; Owner: -
--

CREATE TYPE api.user_request AS (
	user_id uuid,
	username text
);


--
-- Name: TYPE user_request; Type: COMMENT; Schema: api; Owner: -
--

COMMENT ON TYPE api.user_request IS 'One request of api.ensure_user_batch: make user_id if it is missing, named username (null: the default name).';


--
-- Name: webhook_delivery_row; Type: TYPE; Schema: api; Owner: -
--

CREATE TYPE api.webhook_delivery_row AS (
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


--
-- Name: TYPE webhook_delivery_row; Type: COMMENT; Schema: api; Owner: -
--

COMMENT ON TYPE api.webhook_delivery_row IS 'A message for a webhook endpoint, and what became of it.';


--
-- Name: webhook_endpoint_row; Type: TYPE; Schema: api; Owner: -
--

CREATE TYPE api.webhook_endpoint_row AS (
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


--
-- Name: TYPE webhook_endpoint_row; Type: COMMENT; Schema: api; Owner: -
--

COMMENT ON TYPE api.webhook_endpoint_row IS 'A webhook endpoint, without its secret.';


--
-- Name: drop_currency; Type: DOMAIN; Schema: inventory; Owner: -
--

CREATE DOMAIN inventory.drop_currency AS text
	CONSTRAINT drops_currency_check CHECK ((VALUE ~ '^[A-Z]{3}$'::text));


--
-- Name: CONSTRAINT drops_currency_check ON DOMAIN drop_currency; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT drops_currency_check ON DOMAIN inventory.drop_currency IS 'currency: must be an ISO 4217 code, such as USD';


--
-- Name: drop_ends_at; Type: DOMAIN; Schema: inventory; Owner: -
--

CREATE DOMAIN inventory.drop_ends_at AS timestamp with time zone
	CONSTRAINT drops_ends_at_finite_check CHECK (isfinite(VALUE));


--
-- Name: CONSTRAINT drops_ends_at_finite_check ON DOMAIN drop_ends_at; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT drops_ends_at_finite_check ON DOMAIN inventory.drop_ends_at IS 'ends_at: must be a time, not infinity';


--
-- Name: drop_extension_seconds; Type: DOMAIN; Schema: inventory; Owner: -
--

CREATE DOMAIN inventory.drop_extension_seconds AS integer
	CONSTRAINT drops_extension_seconds_check CHECK (((VALUE >= 1) AND (VALUE <= 86400)));


--
-- Name: CONSTRAINT drops_extension_seconds_check ON DOMAIN drop_extension_seconds; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT drops_extension_seconds_check ON DOMAIN inventory.drop_extension_seconds IS 'extension_seconds: must be between 1 and 86400';


--
-- Name: drop_hold_seconds; Type: DOMAIN; Schema: inventory; Owner: -
--

CREATE DOMAIN inventory.drop_hold_seconds AS integer
	CONSTRAINT drops_hold_seconds_check CHECK (((VALUE >= 1) AND (VALUE <= 86400)));


--
-- Name: CONSTRAINT drops_hold_seconds_check ON DOMAIN drop_hold_seconds; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT drops_hold_seconds_check ON DOMAIN inventory.drop_hold_seconds IS 'hold_seconds: must be between 1 and 86400';


--
-- Name: drop_image_url; Type: DOMAIN; Schema: inventory; Owner: -
--

CREATE DOMAIN inventory.drop_image_url AS text
	CONSTRAINT drops_image_url_check CHECK (((char_length(VALUE) <= 2000) AND (VALUE ~ '^[A-Za-z0-9._~:/?#@!$&''()*+,;=%[\]-]+$'::text) AND ((VALUE ~ '^https://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/|$)'::text) OR (VALUE ~ '^http://(localhost|127\.0\.0\.1)(:[0-9]{1,5})?(/|$)'::text) OR (VALUE ~ '^/[A-Za-z0-9._~%-]'::text))));


--
-- Name: CONSTRAINT drops_image_url_check ON DOMAIN drop_image_url; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT drops_image_url_check ON DOMAIN inventory.drop_image_url IS 'image_url: must be an https URL or a path on this host, such as /shoe.jpg, of at most 2000 characters; http is for localhost';


--
-- Name: drop_limit_per_user; Type: DOMAIN; Schema: inventory; Owner: -
--

CREATE DOMAIN inventory.drop_limit_per_user AS integer
	CONSTRAINT drops_limit_per_user_check CHECK ((VALUE > 0));


--
-- Name: CONSTRAINT drops_limit_per_user_check ON DOMAIN drop_limit_per_user; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT drops_limit_per_user_check ON DOMAIN inventory.drop_limit_per_user IS 'limit_per_user: must be 1 or more';


--
-- Name: drop_name; Type: DOMAIN; Schema: inventory; Owner: -
--

CREATE DOMAIN inventory.drop_name AS text
	CONSTRAINT drops_name_check CHECK (((char_length(VALUE) <= 200) AND (VALUE ~ '\S'::text) AND (VALUE !~ '[\u0001-\u001f\u007f-\u009f]'::text)));


--
-- Name: CONSTRAINT drops_name_check ON DOMAIN drop_name; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT drops_name_check ON DOMAIN inventory.drop_name IS 'name: must be 1 to 200 characters, not all blank, without control characters';


--
-- Name: drop_price; Type: DOMAIN; Schema: inventory; Owner: -
--

CREATE DOMAIN inventory.drop_price AS numeric
	CONSTRAINT drops_price_check CHECK ((VALUE >= (0)::numeric))
	CONSTRAINT drops_price_range_check CHECK ((VALUE < ('10000000000'::bigint)::numeric));


--
-- Name: CONSTRAINT drops_price_check ON DOMAIN drop_price; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT drops_price_check ON DOMAIN inventory.drop_price IS 'price: must be 0 or more';


--
-- Name: CONSTRAINT drops_price_range_check ON DOMAIN drop_price; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT drops_price_range_check ON DOMAIN inventory.drop_price IS 'price: must be less than 10000000000';


--
-- Name: drop_rehold_after_seconds; Type: DOMAIN; Schema: inventory; Owner: -
--

CREATE DOMAIN inventory.drop_rehold_after_seconds AS integer
	CONSTRAINT drops_rehold_after_seconds_check CHECK (((VALUE >= 0) AND (VALUE <= 86400)));


--
-- Name: CONSTRAINT drops_rehold_after_seconds_check ON DOMAIN drop_rehold_after_seconds; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT drops_rehold_after_seconds_check ON DOMAIN inventory.drop_rehold_after_seconds IS 'rehold_after_seconds: must be between 0 and 86400';


--
-- Name: drop_starts_at; Type: DOMAIN; Schema: inventory; Owner: -
--

CREATE DOMAIN inventory.drop_starts_at AS timestamp with time zone
	CONSTRAINT drops_starts_at_finite_check CHECK (isfinite(VALUE));


--
-- Name: CONSTRAINT drops_starts_at_finite_check ON DOMAIN drop_starts_at; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT drops_starts_at_finite_check ON DOMAIN inventory.drop_starts_at IS 'starts_at: must be a time, not infinity';


--
-- Name: drop_status; Type: DOMAIN; Schema: inventory; Owner: -
--

CREATE DOMAIN inventory.drop_status AS text
	CONSTRAINT drops_status_check CHECK ((VALUE = ANY (ARRAY['draft'::text, 'scheduled'::text, 'live'::text, 'ended'::text, 'cancelled'::text])));


--
-- Name: CONSTRAINT drops_status_check ON DOMAIN drop_status; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT drops_status_check ON DOMAIN inventory.drop_status IS 'status: must be draft, scheduled, live, ended or cancelled';


--
-- Name: drop_total_stock; Type: DOMAIN; Schema: inventory; Owner: -
--

CREATE DOMAIN inventory.drop_total_stock AS integer
	CONSTRAINT drops_total_stock_check CHECK ((VALUE > 0));


--
-- Name: CONSTRAINT drops_total_stock_check ON DOMAIN drop_total_stock; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT drops_total_stock_check ON DOMAIN inventory.drop_total_stock IS 'total_stock: must be 1 or more';


--
-- Name: hold_facts; Type: TYPE; Schema: inventory; Owner: -
--

CREATE TYPE inventory.hold_facts AS (
	hold_id uuid,
	is_due boolean,
	has_several boolean,
	variant_id uuid,
	qty integer,
	unit_price numeric,
	currency text
);


--
-- Name: TYPE hold_facts; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TYPE inventory.hold_facts IS 'The hold that a purchase request means, or nulls: whether it has run out, whether the request could mean several, and its facts.';


--
-- Name: new_event; Type: TYPE; Schema: inventory; Owner: -
--

CREATE TYPE inventory.new_event AS (
	drop_id uuid,
	type text,
	data json,
	user_id uuid
);


--
-- Name: TYPE new_event; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TYPE inventory.new_event IS 'An event that inventory.publish is to append to the log.';


--
-- Name: stock; Type: TYPE; Schema: inventory; Owner: -
--

CREATE TYPE inventory.stock AS (
	"dropId" uuid,
	"availableStock" integer
);


--
-- Name: TYPE stock; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TYPE inventory.stock IS 'The data of a STOCK_UPDATED event of a drop without variants.';


--
-- Name: announce_changes(); Type: FUNCTION; Schema: inventory; Owner: -
--

CREATE FUNCTION inventory.announce_changes() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
begin
  if exists (select from inventory.changes c where c.transaction_id = new.transaction_id and c.drop_id = new.drop_id) then
    lock table inventory.event_order in share update exclusive mode;
    perform inventory.publish_changes(new.transaction_id);
  end if;
  return null;
end
$$;


--
-- Name: FUNCTION announce_changes(); Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON FUNCTION inventory.announce_changes() IS 'Trigger: at the commit, take the lock that orders events, and announce what the transaction did to its drops.';


--
-- Name: check_hold_of_sale(); Type: FUNCTION; Schema: inventory; Owner: -
--

CREATE FUNCTION inventory.check_hold_of_sale() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform from inventory.reservations r where r.id = new.reservation_id and r.drop_id = new.drop_id for key share;
  if not found then
    raise foreign_key_violation using
      message = format('there is no reservation %s of drop %s', new.reservation_id, new.drop_id),
      constraint = 'purchases_reservation_id', table = tg_table_name, schema = tg_table_schema;
  end if;
  return null;
end
$$;


--
-- Name: FUNCTION check_hold_of_sale(); Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON FUNCTION inventory.check_hold_of_sale() IS 'Trigger: refuse to give a purchase a reservation that does not exist, or is of another drop.';


--
-- Name: check_user_of_hold(); Type: FUNCTION; Schema: inventory; Owner: -
--

CREATE FUNCTION inventory.check_user_of_hold() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if not exists (select from inventory.users u where u.id = new.user_id) then
    raise foreign_key_violation using
      message = format('there is no user %s', new.user_id),
      constraint = 'reservations_user_id', table = tg_table_name, schema = tg_table_schema;
  end if;
  return null;
end
$$;


--
-- Name: FUNCTION check_user_of_hold(); Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON FUNCTION inventory.check_user_of_hold() IS 'Trigger: refuse to give a hold to a user who does not exist.';


--
-- Name: fold_case(text); Type: FUNCTION; Schema: inventory; Owner: -
--

CREATE FUNCTION inventory.fold_case(p_text text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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
$$;


--
-- Name: FUNCTION fold_case(p_text text); Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON FUNCTION inventory.fold_case(p_text text) IS 'A text without its case, in every script, whatever the locale of the database is.';


--
-- Name: keep_drop_with_holds(); Type: FUNCTION; Schema: inventory; Owner: -
--

CREATE FUNCTION inventory.keep_drop_with_holds() RETURNS trigger
    LANGUAGE plpgsql
    AS $$begin return old; end$$;


--
-- Name: keep_hold_of_sale(); Type: FUNCTION; Schema: inventory; Owner: -
--

CREATE FUNCTION inventory.keep_hold_of_sale() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise foreign_key_violation using
      message = 'reservations are deleted, or given another id or drop, at READ COMMITTED only',
      detail = 'At another isolation level a purchase that has just been committed is not seen.';
  elsif exists (select from inventory.purchases p where p.reservation_id = old.id and p.drop_id = old.drop_id) then
    raise foreign_key_violation using
      message = format('reservation %s was purchased, so it stays as it is', old.id),
      constraint = 'purchases_reservation_id', table = tg_table_name, schema = tg_table_schema;
  end if;
  return null;
end
$$;


--
-- Name: FUNCTION keep_hold_of_sale(); Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON FUNCTION inventory.keep_hold_of_sale() IS 'Trigger: refuse to delete a reservation that was purchased, or to give it another id or drop.';


--
-- Name: keep_together(); Type: FUNCTION; Schema: inventory; Owner: -
--

CREATE FUNCTION inventory.keep_together() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if tg_table_name = 'drops' and exists (select from inventory.reservations) then
    raise foreign_key_violation using
      message = 'drops have reservations, so they cannot be emptied alone',
      hint = 'Empty inventory.reservations and inventory.purchases in the same statement.';
  elsif tg_table_name = 'reservations' and exists (select from inventory.purchases) then
    raise foreign_key_violation using
      message = 'reservations have purchases, so they cannot be emptied alone',
      hint = 'Empty inventory.purchases in the same statement.';
  elsif tg_table_name <> 'drops' and exists (select from inventory.drops) then
    raise integrity_constraint_violation using
      message = format('%s cannot be emptied without the drops, because their stock would not balance', tg_table_name),
      hint = 'Empty inventory.drops in the same statement.';
  end if;
  return null;
end
$$;


--
-- Name: FUNCTION keep_together(); Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON FUNCTION inventory.keep_together() IS 'Trigger: refuse to empty drops without their holds and sales, or holds, sales or variants without their drops.';


--
-- Name: keep_users(); Type: FUNCTION; Schema: inventory; Owner: -
--

CREATE FUNCTION inventory.keep_users() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if tg_op <> 'TRUNCATE' or exists (select from inventory.reservations) then
    raise foreign_key_violation using
      message = 'users stay, and keep their ids',
      detail = 'Reservations and purchases name them.',
      hint = 'To forget who a user is: select api.forget_user(''<user>'');';
  end if;
  return null;
end
$$;


--
-- Name: FUNCTION keep_users(); Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON FUNCTION inventory.keep_users() IS 'Trigger: refuse to delete users, or to give one another id. They may be emptied together with the reservations.';


--
-- Name: name_key(text); Type: FUNCTION; Schema: inventory; Owner: -
--

CREATE FUNCTION inventory.name_key(p_name text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (p_name ~ '^[!-~]+( [!-~]+)*$'::text) THEN lower((p_name COLLATE "C")) ELSE inventory.fold_case(btrim(regexp_replace(regexp_replace(NORMALIZE(p_name, NFKC), '[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2060-\u2065\u206a-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]'::text, ''::text, 'g'::text), '[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+'::text, ' '::text, 'g'::text))) END;


--
-- Name: node(); Type: FUNCTION; Schema: inventory; Owner: -
--

CREATE FUNCTION inventory.node() RETURNS integer
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN 0;


--
-- Name: FUNCTION node(); Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON FUNCTION inventory.node() IS 'The number of this node. inventory.set_node sets it.';


--
-- Name: note_drop(); Type: FUNCTION; Schema: inventory; Owner: -
--

CREATE FUNCTION inventory.note_drop() RETURNS trigger
    LANGUAGE plpgsql
    AS $$begin return null; end$$;


--
-- Name: note_earlier_end(); Type: FUNCTION; Schema: inventory; Owner: -
--

CREATE FUNCTION inventory.note_earlier_end() RETURNS trigger
    LANGUAGE plpgsql
    AS $$begin return null; end$$;


--
-- Name: note_earlier_payment_end(); Type: FUNCTION; Schema: inventory; Owner: -
--

CREATE FUNCTION inventory.note_earlier_payment_end() RETURNS trigger
    LANGUAGE plpgsql
    AS $$begin return null; end$$;


--
-- Name: note_payments(); Type: FUNCTION; Schema: inventory; Owner: -
--

CREATE FUNCTION inventory.note_payments() RETURNS trigger
    LANGUAGE plpgsql
    AS $$begin return null; end$$;


--
-- Name: note_purchases(); Type: FUNCTION; Schema: inventory; Owner: -
--

CREATE FUNCTION inventory.note_purchases() RETURNS trigger
    LANGUAGE plpgsql
    AS $$begin return null; end$$;


--
-- Name: note_reservations(); Type: FUNCTION; Schema: inventory; Owner: -
--

CREATE FUNCTION inventory.note_reservations() RETURNS trigger
    LANGUAGE plpgsql
    AS $$begin return null; end$$;


--
-- Name: note_stock(); Type: FUNCTION; Schema: inventory; Owner: -
--

CREATE FUNCTION inventory.note_stock() RETURNS trigger
    LANGUAGE plpgsql
    AS $$begin return null; end$$;


--
-- Name: note_user(); Type: FUNCTION; Schema: inventory; Owner: -
--

CREATE FUNCTION inventory.note_user() RETURNS trigger
    LANGUAGE plpgsql
    AS $$begin return null; end$$;


--
-- Name: note_variants(); Type: FUNCTION; Schema: inventory; Owner: -
--

CREATE FUNCTION inventory.note_variants() RETURNS trigger
    LANGUAGE plpgsql
    AS $$begin return null; end$$;


--
-- Name: note_webhook_endpoints(); Type: FUNCTION; Schema: inventory; Owner: -
--

CREATE FUNCTION inventory.note_webhook_endpoints() RETURNS trigger
    LANGUAGE plpgsql
    AS $$begin return null; end$$;


--
-- Name: raise_revision(); Type: FUNCTION; Schema: inventory; Owner: -
--

CREATE FUNCTION inventory.raise_revision() RETURNS trigger
    LANGUAGE plpgsql
    AS $$begin return new; end$$;


--
-- Name: refuse_rewriting(); Type: FUNCTION; Schema: inventory; Owner: -
--

CREATE FUNCTION inventory.refuse_rewriting() RETURNS trigger
    LANGUAGE plpgsql
    AS $$begin return null; end$$;


--
-- Name: tell_payment_problem(); Type: FUNCTION; Schema: inventory; Owner: -
--

CREATE FUNCTION inventory.tell_payment_problem() RETURNS trigger
    LANGUAGE plpgsql
    AS $$begin return null; end$$;


--
-- Name: uuid_v7(); Type: FUNCTION; Schema: inventory; Owner: -
--

CREATE FUNCTION inventory.uuid_v7() RETURNS uuid
    LANGUAGE sql PARALLEL SAFE
    BEGIN ATOMIC
 SELECT (encode(set_byte(uuid_send(uuidv7()), 9, inventory.node()), 'hex'::text))::uuid AS encode;
END;


--
-- Name: FUNCTION uuid_v7(); Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON FUNCTION inventory.uuid_v7() IS 'A new UUIDv7 of this node: PostgreSQL''s own from 18 on, emulated below, with the number of the node as byte 9.';


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: baskets; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.baskets (
    id uuid DEFAULT inventory.uuid_v7() NOT NULL,
    user_id uuid NOT NULL,
    idempotency_key text,
    items jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT baskets_idempotency_key_check CHECK (((octet_length(idempotency_key) <= 255) AND (idempotency_key ~ '^[!-~]+$'::text)))
);


--
-- Name: TABLE baskets; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.baskets IS 'Holds of a user that were made together. It has no drop_id, because its holds may be of several drops: reservations.basket_id.';


--
-- Name: COLUMN baskets.items; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.baskets.items IS 'What was asked for: a list of api.basket_item. It tells whether a repeated Idempotency-Key came with the same request.';


--
-- Name: CONSTRAINT baskets_idempotency_key_check ON baskets; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT baskets_idempotency_key_check ON inventory.baskets IS 'Idempotency-Key: must be 1 to 255 visible ASCII characters';


--
-- Name: changes; Type: TABLE; Schema: inventory; Owner: -
--

CREATE UNLOGGED TABLE inventory.changes (
    transaction_id xid8 DEFAULT pg_current_xact_id() NOT NULL,
    drop_id uuid NOT NULL,
    is_created boolean DEFAULT false NOT NULL,
    is_updated boolean DEFAULT false NOT NULL,
    is_stock_updated boolean DEFAULT false NOT NULL,
    is_activity_updated boolean DEFAULT false NOT NULL,
    expired_ids uuid[] DEFAULT '{}'::uuid[] NOT NULL,
    purchased_ids uuid[] DEFAULT '{}'::uuid[] NOT NULL,
    variant_ids uuid[] DEFAULT '{}'::uuid[] NOT NULL,
    added_total bigint DEFAULT 0 NOT NULL,
    added_available bigint DEFAULT 0 NOT NULL,
    added_held bigint DEFAULT 0 NOT NULL,
    added_sold bigint DEFAULT 0 NOT NULL,
    was_public boolean,
    updated_payment_ids uuid[] DEFAULT '{}'::uuid[] NOT NULL,
    changed_purchase_ids uuid[],
    is_cancelled boolean,
    variant_balance numeric DEFAULT 0 NOT NULL
);


--
-- Name: TABLE changes; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.changes IS 'Notes of what each open transaction has done to a drop. They become events at its commit, so other transactions see no rows.';


--
-- Name: COLUMN changes.changed_purchase_ids; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.changes.changed_purchase_ids IS 'Purchases whose status or refund changed, for webhooks.';


--
-- Name: COLUMN changes.is_cancelled; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.changes.is_cancelled IS 'Whether the drop was cancelled, for webhooks.';


--
-- Name: COLUMN changes.variant_balance; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.changes.variant_balance IS 'What each variant has available, held and sold more, less what it has more in total, times its inventory.variant_weight: 0 if all balance.';


--
-- Name: drop_changes; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.drop_changes (
    drop_id uuid NOT NULL,
    id bigint NOT NULL,
    action text NOT NULL,
    changed_by uuid,
    db_user text NOT NULL,
    details jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT drop_changes_action_check CHECK ((action = ANY (ARRAY['created'::text, 'updated'::text, 'cancelled'::text, 'refunded'::text])))
);


--
-- Name: TABLE drop_changes; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.drop_changes IS 'The history of drops: who did what when. Rows are only added.';


--
-- Name: COLUMN drop_changes.changed_by; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.drop_changes.changed_by IS 'The user; null: a person or program in the database, see db_user.';


--
-- Name: COLUMN drop_changes.db_user; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.drop_changes.db_user IS 'The role that the session logged in as, or has set.';


--
-- Name: COLUMN drop_changes.details; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.drop_changes.details IS 'created: the fields; updated and cancelled: the fields that changed, each with "from" and "to"; refunded: what was refunded.';


--
-- Name: CONSTRAINT drop_changes_action_check ON drop_changes; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT drop_changes_action_check ON inventory.drop_changes IS 'action: must be created, updated, cancelled or refunded';


--
-- Name: drop_changes_id_seq; Type: SEQUENCE; Schema: inventory; Owner: -
--

ALTER TABLE inventory.drop_changes ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME inventory.drop_changes_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: drops; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.drops (
    id uuid DEFAULT inventory.uuid_v7() NOT NULL,
    name inventory.drop_name NOT NULL,
    price inventory.drop_price NOT NULL,
    total_stock inventory.drop_total_stock NOT NULL,
    available_stock integer NOT NULL,
    starts_at inventory.drop_starts_at,
    ends_at inventory.drop_ends_at,
    status inventory.drop_status NOT NULL,
    created_by uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    currency inventory.drop_currency DEFAULT 'USD'::text NOT NULL,
    limit_per_user inventory.drop_limit_per_user,
    hold_seconds inventory.drop_hold_seconds,
    rehold_after_seconds inventory.drop_rehold_after_seconds DEFAULT 0 NOT NULL,
    extension_seconds inventory.drop_extension_seconds,
    paused_at timestamp with time zone,
    nothing_due_before timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
    revision integer DEFAULT 1 NOT NULL,
    was_published boolean DEFAULT false NOT NULL,
    image_url inventory.drop_image_url,
    CONSTRAINT drops_available_stock_check CHECK (((available_stock >= 0) AND (available_stock <= (total_stock)::integer))),
    CONSTRAINT drops_ends_at_check CHECK (((ends_at)::timestamp with time zone > (starts_at)::timestamp with time zone)),
    CONSTRAINT drops_starts_at_check CHECK (((starts_at IS NOT NULL) OR ((status)::text <> ALL (ARRAY['scheduled'::text, 'live'::text]))))
)
WITH (fillfactor='20');


--
-- Name: TABLE drops; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.drops IS 'Limited offers. The row is the unit of contention: a transaction that changes its stock locks it first.';


--
-- Name: COLUMN drops.available_stock; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.drops.available_stock IS 'Units neither held by an ACTIVE reservation nor sold.';


--
-- Name: COLUMN drops.limit_per_user; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.drops.limit_per_user IS 'Units that a user may hold and have bought together; null: no limit.';


--
-- Name: COLUMN drops.hold_seconds; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.drops.hold_seconds IS 'How long a hold lasts; null: as long as the caller of the reserve says.';


--
-- Name: COLUMN drops.rehold_after_seconds; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.drops.rehold_after_seconds IS 'How long a user waits for the next hold after one that ran out or was cancelled.';


--
-- Name: COLUMN drops.extension_seconds; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.drops.extension_seconds IS 'By how long a hold may be extended, once; null: not at all.';


--
-- Name: COLUMN drops.paused_at; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.drops.paused_at IS 'Since when the drop is paused; null: it is not.';


--
-- Name: COLUMN drops.nothing_due_before; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.drops.nothing_due_before IS 'No ACTIVE hold and no pending purchase of the drop ends before this time. A search for what is due begins here, so it does not visit all that were sold.';


--
-- Name: COLUMN drops.revision; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.drops.revision IS 'How often what a seller sets was changed. Sales and the clock do not raise it.';


--
-- Name: COLUMN drops.was_published; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.drops.was_published IS 'Of a drop that is cancelled: everybody had seen it, because it was no draft.';


--
-- Name: CONSTRAINT drops_ends_at_check ON drops; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT drops_ends_at_check ON inventory.drops IS 'ends_at: must be later than starts_at';


--
-- Name: CONSTRAINT drops_starts_at_check ON drops; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT drops_starts_at_check ON inventory.drops IS 'starts_at: a scheduled or live drop needs one';


--
-- Name: event_epochs; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.event_epochs (
    first_id bigint NOT NULL,
    lost_after_id bigint NOT NULL,
    system_identifier bigint NOT NULL,
    timeline text NOT NULL,
    database_oid oid NOT NULL,
    began_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT event_epochs_check CHECK ((lost_after_id < first_id))
);


--
-- Name: TABLE event_epochs; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.event_epochs IS 'The servers, timelines and databases that gave out the ids of events. The row with the greatest first_id is the present one.';


--
-- Name: COLUMN event_epochs.first_id; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.event_epochs.first_id IS 'The ids of the epoch are not smaller.';


--
-- Name: COLUMN event_epochs.lost_after_id; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.event_epochs.lost_after_id IS 'The newest id of the log when the epoch began. An id between this one and first_id means an event that was lost.';


--
-- Name: CONSTRAINT event_epochs_check ON event_epochs; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT event_epochs_check ON inventory.event_epochs IS 'lost_after_id: must be less than first_id';


--
-- Name: event_key; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.event_key (
    is_only boolean DEFAULT true NOT NULL,
    key bytea NOT NULL,
    inner_key bytea NOT NULL,
    outer_key bytea NOT NULL,
    CONSTRAINT event_key_is_only_check CHECK (is_only)
);


--
-- Name: TABLE event_key; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.event_key IS 'One row: the key of the codes that prove that a notification is an event, and the two keys that HMAC derives from it.';


--
-- Name: CONSTRAINT event_key_is_only_check ON event_key; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT event_key_is_only_check ON inventory.event_key IS 'is_only: must be true';


--
-- Name: event_order; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.event_order (
    nothing boolean
)
WITH (autovacuum_enabled='false');


--
-- Name: TABLE event_order; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.event_order IS 'The lock that orders events. It has no rows; transactions lock it before they draw an id.';


--
-- Name: events; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.events (
    id bigint NOT NULL,
    drop_id uuid NOT NULL,
    type text NOT NULL,
    data json NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    user_id uuid
);


--
-- Name: TABLE events; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.events IS 'The event log: committed events in the order of their commits, kept for EVENT_RETENTION_SECONDS for readers that missed some.';


--
-- Name: COLUMN events.created_at; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.events.created_at IS 'The time of publishing and not now(). It rises with id, so pruning by time removes a beginning of the log.';


--
-- Name: COLUMN events.user_id; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.events.user_id IS 'The only user who may see the event; null: everybody may.';


--
-- Name: events_id_seq; Type: SEQUENCE; Schema: inventory; Owner: -
--

ALTER TABLE inventory.events ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME inventory.events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: function_files; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.function_files (
    path text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);


--
-- Name: TABLE function_files; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.function_files IS 'The files under db/functions as last applied, with the SHA-256 of each.';


--
-- Name: function_sets; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.function_sets (
    number bigint NOT NULL,
    checksum text NOT NULL
);


--
-- Name: TABLE function_sets; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.function_sets IS 'The sets of function files that were deployed, in this order; the last row is the set in force. Going back to a set deletes the
rows behind it.';


--
-- Name: function_sets_number_seq; Type: SEQUENCE; Schema: inventory; Owner: -
--

ALTER TABLE inventory.function_sets ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME inventory.function_sets_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: idempotency_keys; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.idempotency_keys (
    user_id uuid,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    row_id uuid NOT NULL,
    transaction_id xid8 DEFAULT pg_current_xact_id() NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);


--
-- Name: TABLE idempotency_keys; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.idempotency_keys IS 'The Idempotency-Keys of rare requests, each with the row that the first one made. Pruned after a day.';


--
-- Name: COLUMN idempotency_keys.user_id; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.idempotency_keys.user_id IS 'Who sent the key; null: a request that names nobody.';


--
-- Name: COLUMN idempotency_keys.fingerprint; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.idempotency_keys.fingerprint IS 'SHA-256 of the operation and the request, so that a key of another request is noticed.';


--
-- Name: COLUMN idempotency_keys.row_id; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.idempotency_keys.row_id IS 'What the first request made.';


--
-- Name: COLUMN idempotency_keys.transaction_id; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.idempotency_keys.transaction_id IS 'The transaction of the first request; any other one is a replay.';


--
-- Name: payment_events; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.payment_events (
    id bigint NOT NULL,
    provider text NOT NULL,
    event_id text NOT NULL,
    payment_id uuid,
    status text NOT NULL,
    amount numeric,
    currency text,
    refunded_amount numeric,
    body text NOT NULL,
    outcome text NOT NULL,
    problem text,
    received_at timestamp with time zone DEFAULT now() NOT NULL,
    provider_reference text,
    CONSTRAINT payment_events_outcome_check CHECK ((outcome = ANY (ARRAY['applied'::text, 'unchanged'::text, 'flagged'::text]))),
    CONSTRAINT payment_events_problem_check CHECK ((problem = ANY (ARRAY['unknown_payment'::text, 'wrong_amount'::text, 'wrong_currency'::text, 'wrong_mode'::text, 'refunded_in_part'::text, 'refund_failed'::text, 'too_late'::text, 'paid_twice'::text])))
);


--
-- Name: TABLE payment_events; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.payment_events IS 'What providers told about payments. Rows are only added.';


--
-- Name: COLUMN payment_events.payment_id; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.payment_events.payment_id IS 'Null: no payment was found.';


--
-- Name: COLUMN payment_events.status; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.payment_events.status IS 'What the payment has become, as the provider tells it.';


--
-- Name: COLUMN payment_events.body; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.payment_events.body IS 'The request as it came.';


--
-- Name: COLUMN payment_events.outcome; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.payment_events.outcome IS 'applied: the payment was changed; unchanged: it was so already, or may not become so any more; flagged: the seller has to look at it.';


--
-- Name: COLUMN payment_events.provider_reference; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.payment_events.provider_reference IS 'The id at the provider that the event names; null: none, or the event is older than this column.';


--
-- Name: payment_events_id_seq; Type: SEQUENCE; Schema: inventory; Owner: -
--

ALTER TABLE inventory.payment_events ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME inventory.payment_events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: payments; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.payments (
    id uuid DEFAULT inventory.uuid_v7() NOT NULL,
    drop_id uuid NOT NULL,
    basket_id uuid,
    user_id uuid NOT NULL,
    amount numeric NOT NULL,
    currency text NOT NULL,
    status text DEFAULT 'pending'::text NOT NULL,
    refunded_amount numeric DEFAULT 0 NOT NULL,
    provider text NOT NULL,
    provider_reference text,
    client_secret text,
    url text,
    expires_at timestamp with time zone NOT NULL,
    paid_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT payments_amount_check CHECK ((amount > (0)::numeric)),
    CONSTRAINT payments_refunded_amount_check CHECK (((refunded_amount >= (0)::numeric) AND (refunded_amount <= amount))),
    CONSTRAINT payments_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'paid'::text, 'failed'::text, 'cancelled'::text, 'refunded'::text])))
);


--
-- Name: TABLE payments; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.payments IS 'What a provider is to take from a buyer for one purchase, or for those of a basket.';


--
-- Name: COLUMN payments.drop_id; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.payments.drop_id IS 'The drop of its first purchase. That of a basket may be for several drops.';


--
-- Name: COLUMN payments.refunded_amount; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.payments.refunded_amount IS 'What was refunded in all, here or at the provider. It includes refunds that the provider is yet to make.';


--
-- Name: COLUMN payments.provider_reference; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.payments.provider_reference IS 'The id of the payment at the provider, once it is known.';


--
-- Name: COLUMN payments.client_secret; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.payments.client_secret IS 'With it the buyer''s page pays at the provider.';


--
-- Name: COLUMN payments.url; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.payments.url IS 'Where the buyer pays.';


--
-- Name: COLUMN payments.expires_at; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.payments.expires_at IS 'A payment that is not paid by then is cancelled, and its units go back to stock.';


--
-- Name: provider_calls; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.provider_calls (
    id uuid DEFAULT inventory.uuid_v7() NOT NULL,
    drop_id uuid NOT NULL,
    payment_id uuid NOT NULL,
    action text NOT NULL,
    amount numeric NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    next_attempt_at timestamp with time zone DEFAULT now() NOT NULL,
    done_at timestamp with time zone,
    gave_up_at timestamp with time zone,
    last_error text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT provider_calls_action_check CHECK ((action = ANY (ARRAY['create'::text, 'cancel'::text, 'refund'::text])))
);


--
-- Name: TABLE provider_calls; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.provider_calls IS 'What a provider has to be told. The id of the call is its idempotency key there, so that a call that is repeated counts once.';


--
-- Name: COLUMN provider_calls.next_attempt_at; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.provider_calls.next_attempt_at IS 'When it is tried again. Until then a worker has leased it, or it waits after an error.';


--
-- Name: COLUMN provider_calls.gave_up_at; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.provider_calls.gave_up_at IS 'When the last attempt failed; null: it is done, or tried again. The seller may retry it.';


--
-- Name: pruned_events; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.pruned_events (
    drop_id uuid NOT NULL,
    last_id bigint NOT NULL,
    available_stock integer,
    stock_at timestamp with time zone
);


--
-- Name: TABLE pruned_events; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.pruned_events IS 'The newest event of each drop that is in the log no more.';


--
-- Name: COLUMN pruned_events.available_stock; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.pruned_events.available_stock IS 'What the newest pruned event about its stock told; null: none was pruned since version 0.3.';


--
-- Name: COLUMN pruned_events.stock_at; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.pruned_events.stock_at IS 'The time of that event.';


--
-- Name: purchases; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.purchases (
    id uuid DEFAULT inventory.uuid_v7() NOT NULL,
    drop_id uuid NOT NULL,
    reservation_id uuid NOT NULL,
    user_id uuid NOT NULL,
    qty integer DEFAULT 1 NOT NULL,
    status text NOT NULL,
    idempotency_key text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    variant_id uuid,
    unit_price numeric,
    amount numeric,
    currency text,
    refunded_amount numeric,
    refunded_at timestamp with time zone,
    payment_id uuid,
    refunded_qty integer DEFAULT 0 NOT NULL,
    payment_expires_at timestamp with time zone,
    CONSTRAINT purchases_idempotency_key_check CHECK (((octet_length(idempotency_key) <= 255) AND (idempotency_key ~ '^[!-~]+$'::text))),
    CONSTRAINT purchases_qty_check CHECK ((qty > 0)),
    CONSTRAINT purchases_refunded_qty_check CHECK (((refunded_qty >= 0) AND (refunded_qty <= qty))),
    CONSTRAINT purchases_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'paid'::text, 'failed'::text, 'cancelled'::text, 'refunded'::text])))
);


--
-- Name: TABLE purchases; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.purchases IS 'A consumed reservation. Stock was taken when the unit was reserved. Those of qty - refunded_qty units that are pending or paid are sold.';


--
-- Name: COLUMN purchases.amount; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.purchases.amount IS 'qty × unit_price. Null: sold before version 0.3.';


--
-- Name: COLUMN purchases.payment_id; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.purchases.payment_id IS 'Null: it was paid without a provider, or it is free.';


--
-- Name: COLUMN purchases.refunded_qty; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.purchases.refunded_qty IS 'How many of its units were refunded and given back.';


--
-- Name: COLUMN purchases.payment_expires_at; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.purchases.payment_expires_at IS 'A pending purchase is due then: its units go back to stock.';


--
-- Name: CONSTRAINT purchases_idempotency_key_check ON purchases; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT purchases_idempotency_key_check ON inventory.purchases IS 'Idempotency-Key: must be 1 to 255 visible ASCII characters';


--
-- Name: registered_names; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.registered_names (
    name_key text NOT NULL,
    user_id uuid NOT NULL
);


--
-- Name: TABLE registered_names; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.registered_names IS 'The usernames that this node keeps for all nodes of a router; a user need not be known here.';


--
-- Name: COLUMN registered_names.name_key; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.registered_names.name_key IS 'See inventory.name_key.';


--
-- Name: reservations; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.reservations (
    id uuid DEFAULT inventory.uuid_v7() NOT NULL,
    drop_id uuid NOT NULL,
    user_id uuid NOT NULL,
    status text DEFAULT 'ACTIVE'::text NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    idempotency_key text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    variant_id uuid,
    qty integer DEFAULT 1 NOT NULL,
    unit_price numeric,
    currency text,
    basket_id uuid,
    extended_at timestamp with time zone,
    CONSTRAINT reservations_idempotency_key_check CHECK (((octet_length(idempotency_key) <= 255) AND (idempotency_key ~ '^[!-~]+$'::text))),
    CONSTRAINT reservations_qty_check CHECK ((qty > 0)),
    CONSTRAINT reservations_status_check CHECK ((status = ANY (ARRAY['ACTIVE'::text, 'EXPIRED'::text, 'CANCELLED'::text, 'CONSUMED'::text])))
);


--
-- Name: TABLE reservations; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.reservations IS 'Units held for a user until expires_at.';


--
-- Name: COLUMN reservations.variant_id; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.reservations.variant_id IS 'There is no foreign key, because a check of each row would cost 4 % of the speed of a reserve. No function removes a variant in use.';


--
-- Name: COLUMN reservations.unit_price; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.reservations.unit_price IS 'As it was when the hold was made. Null: made before version 0.3.';


--
-- Name: COLUMN reservations.extended_at; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.reservations.extended_at IS 'When the hold was extended; null: never. It can be extended once.';


--
-- Name: CONSTRAINT reservations_idempotency_key_check ON reservations; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT reservations_idempotency_key_check ON inventory.reservations IS 'Idempotency-Key: must be 1 to 255 visible ASCII characters';


--
-- Name: CONSTRAINT reservations_qty_check ON reservations; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT reservations_qty_check ON inventory.reservations IS 'qty: must be 1 or more';


--
-- Name: settings; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.settings (
    is_only boolean DEFAULT true NOT NULL,
    purchaser_names text DEFAULT 'full'::text NOT NULL,
    payment_provider text DEFAULT 'none'::text NOT NULL,
    payment_ttl_seconds integer DEFAULT 900 NOT NULL,
    reconciled_at timestamp with time zone,
    webhook_types text[] DEFAULT '{}'::text[] NOT NULL,
    CONSTRAINT settings_is_only_check CHECK (is_only),
    CONSTRAINT settings_payment_provider_check CHECK ((payment_provider = ANY (ARRAY['none'::text, 'stripe'::text, 'webhook'::text]))),
    CONSTRAINT settings_payment_ttl_seconds_check CHECK (((payment_ttl_seconds >= 1) AND (payment_ttl_seconds <= 604800))),
    CONSTRAINT settings_purchaser_names_check CHECK ((purchaser_names = ANY (ARRAY['full'::text, 'initials'::text, 'hidden'::text])))
);


--
-- Name: TABLE settings; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.settings IS 'One row: what the service is configured with and the functions must know.';


--
-- Name: COLUMN settings.purchaser_names; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.settings.purchaser_names IS 'How purchasers'' names are shown to everybody.';


--
-- Name: COLUMN settings.payment_provider; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.settings.payment_provider IS 'Who takes the money for purchases: none (they are paid at once), stripe or webhook.';


--
-- Name: COLUMN settings.payment_ttl_seconds; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.settings.payment_ttl_seconds IS 'How long a payment may take at least. It may take as long as the hold would have lasted, too.';


--
-- Name: COLUMN settings.reconciled_at; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.settings.reconciled_at IS 'When the latest daily comparison with the payment providers began; null: never.';


--
-- Name: COLUMN settings.webhook_types; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.settings.webhook_types IS 'The types of messages that active webhook endpoints want. A trigger on the endpoints keeps it.';


--
-- Name: CONSTRAINT settings_is_only_check ON settings; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT settings_is_only_check ON inventory.settings IS 'is_only: there is one row';


--
-- Name: CONSTRAINT settings_payment_provider_check ON settings; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT settings_payment_provider_check ON inventory.settings IS 'p_provider: must be none, stripe or webhook';


--
-- Name: CONSTRAINT settings_payment_ttl_seconds_check ON settings; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT settings_payment_ttl_seconds_check ON inventory.settings IS 'p_ttl_seconds: must be between 1 and 604800';


--
-- Name: CONSTRAINT settings_purchaser_names_check ON settings; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT settings_purchaser_names_check ON inventory.settings IS 'p_names: must be full, initials or hidden';


--
-- Name: ticket_key; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.ticket_key (
    is_only boolean DEFAULT true NOT NULL,
    inner_key bytea NOT NULL,
    outer_key bytea NOT NULL,
    CONSTRAINT ticket_key_is_only_check CHECK (is_only)
);


--
-- Name: TABLE ticket_key; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.ticket_key IS 'One row: the two keys of the codes (HMAC-SHA-256) that prove who made a stream ticket.';


--
-- Name: CONSTRAINT ticket_key_is_only_check ON ticket_key; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT ticket_key_is_only_check ON inventory.ticket_key IS 'is_only: must be true';


--
-- Name: users; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.users (
    id uuid DEFAULT inventory.uuid_v7() NOT NULL,
    username text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    forgotten_at timestamp with time zone,
    CONSTRAINT users_username_check CHECK (((char_length(username) <= 200) AND (username IS NFC NORMALIZED) AND (inventory.name_key(username) <> ''::text) AND (username !~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]'::text)))
);


--
-- Name: TABLE users; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.users IS 'Buyers and sellers.';


--
-- Name: COLUMN users.forgotten_at; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.users.forgotten_at IS 'When api.forget_user replaced the name; null: it never did.';


--
-- Name: CONSTRAINT users_username_check ON users; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT users_username_check ON inventory.users IS 'username: must be 1 to 200 characters, not all invisible, without control characters or changes of text direction';


--
-- Name: variants; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.variants (
    id uuid DEFAULT inventory.uuid_v7() NOT NULL,
    drop_id uuid NOT NULL,
    name text NOT NULL,
    price numeric,
    total_stock integer NOT NULL,
    available_stock integer NOT NULL,
    "position" integer NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT variants_available_stock_check CHECK (((available_stock >= 0) AND (available_stock <= total_stock))),
    CONSTRAINT variants_name_check CHECK (((char_length(name) <= 200) AND (name ~ '\S'::text) AND (name !~ '[\u0001-\u001f\u007f-\u009f]'::text))),
    CONSTRAINT variants_price_check CHECK ((price >= (0)::numeric)),
    CONSTRAINT variants_price_range_check CHECK ((price < ('10000000000'::bigint)::numeric)),
    CONSTRAINT variants_total_stock_check CHECK ((total_stock > 0))
)
WITH (fillfactor='20');


--
-- Name: TABLE variants; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.variants IS 'Sizes or tiers of a drop. Their stock is changed under the lock of the drop, whose stock is the sum.';


--
-- Name: COLUMN variants.price; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.variants.price IS 'Null: the price of the drop.';


--
-- Name: COLUMN variants."position"; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.variants."position" IS 'Its place among the variants of the drop, from 1 on.';


--
-- Name: CONSTRAINT variants_name_check ON variants; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT variants_name_check ON inventory.variants IS 'variants.name: must be 1 to 200 characters, not all blank, without control characters';


--
-- Name: CONSTRAINT variants_price_check ON variants; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT variants_price_check ON inventory.variants IS 'variants.price: must be 0 or more';


--
-- Name: CONSTRAINT variants_price_range_check ON variants; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT variants_price_range_check ON inventory.variants IS 'variants.price: must be less than 10000000000';


--
-- Name: CONSTRAINT variants_total_stock_check ON variants; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT variants_total_stock_check ON inventory.variants IS 'variants.total_stock: must be 1 or more';


--
-- Name: watchers; Type: TABLE; Schema: inventory; Owner: -
--

CREATE UNLOGGED TABLE inventory.watchers (
    process_id uuid NOT NULL,
    streams integer NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT watchers_streams_check CHECK ((streams > 0))
);


--
-- Name: TABLE watchers; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.watchers IS 'How many streams each process of the service has open; a process without one has no row.';


--
-- Name: COLUMN watchers.process_id; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.watchers.process_id IS 'A process draws it when it starts.';


--
-- Name: COLUMN watchers.at; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.watchers.at IS 'When the process last said so. An old row is that of a process which is dead.';


--
-- Name: CONSTRAINT watchers_streams_check ON watchers; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT watchers_streams_check ON inventory.watchers IS 'streams: must be 1 or more';


--
-- Name: webhook_deliveries; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.webhook_deliveries (
    endpoint_id uuid NOT NULL,
    lane uuid NOT NULL,
    message bigint NOT NULL,
    id uuid DEFAULT inventory.uuid_v7() NOT NULL,
    status text DEFAULT 'pending'::text NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    last_attempt_at timestamp with time zone,
    last_status integer,
    last_error text,
    give_up_at timestamp with time zone DEFAULT (now() + '1 day'::interval) NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT webhook_deliveries_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'delivered'::text, 'given_up'::text])))
);


--
-- Name: TABLE webhook_deliveries; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.webhook_deliveries IS 'A message for an endpoint, and what became of it.';


--
-- Name: COLUMN webhook_deliveries.lane; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.webhook_deliveries.lane IS 'See inventory.webhook_lanes.';


--
-- Name: COLUMN webhook_deliveries.message; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.webhook_deliveries.message IS 'inventory.webhook_messages.id.';


--
-- Name: COLUMN webhook_deliveries.last_status; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.webhook_deliveries.last_status IS 'The status of the last answer; null: there was none.';


--
-- Name: COLUMN webhook_deliveries.give_up_at; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.webhook_deliveries.give_up_at IS 'An attempt that fails after this moment is the last one.';


--
-- Name: CONSTRAINT webhook_deliveries_status_check ON webhook_deliveries; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT webhook_deliveries_status_check ON inventory.webhook_deliveries IS 'status: must be pending, delivered or given_up';


--
-- Name: webhook_endpoints; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.webhook_endpoints (
    id uuid DEFAULT inventory.uuid_v7() NOT NULL,
    url text NOT NULL,
    event_types text[] NOT NULL,
    is_active boolean DEFAULT true NOT NULL,
    disabled_at timestamp with time zone,
    disabled_reason text,
    failing_since timestamp with time zone,
    secret text NOT NULL,
    previous_secret text,
    previous_secret_ends_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT webhook_endpoints_disabled_reason_check CHECK ((disabled_reason = ANY (ARRAY['failing'::text, 'gone'::text]))),
    CONSTRAINT webhook_endpoints_event_types_check CHECK (((cardinality(event_types) > 0) AND (event_types <@ ARRAY['purchase.pending'::text, 'purchase.paid'::text, 'purchase.cancelled'::text, 'purchase.refunded'::text, 'hold.expired'::text, 'drop.created'::text, 'drop.updated'::text, 'drop.sold_out'::text, 'drop.cancelled'::text, 'payment.flagged'::text]))),
    CONSTRAINT webhook_endpoints_url_check CHECK (((char_length(url) <= 2000) AND (url ~ '^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?([/?]([A-Za-z0-9._~:/?@!$&''()*+,;=-]|%[0-9A-Fa-f]{2})*)?$'::text)))
);


--
-- Name: TABLE webhook_endpoints; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.webhook_endpoints IS 'Where the seller''s systems want to be told what happens, and what.';


--
-- Name: COLUMN webhook_endpoints.disabled_at; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.webhook_endpoints.disabled_at IS 'When the service gave the endpoint up; null: it did not.';


--
-- Name: COLUMN webhook_endpoints.disabled_reason; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.webhook_endpoints.disabled_reason IS 'failing: no delivery succeeded for days; gone: the endpoint answered 410.';


--
-- Name: COLUMN webhook_endpoints.failing_since; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.webhook_endpoints.failing_since IS 'The first failure since the last success.';


--
-- Name: COLUMN webhook_endpoints.previous_secret; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.webhook_endpoints.previous_secret IS 'The secret before it was rotated. Until previous_secret_ends_at messages are signed with both.';


--
-- Name: CONSTRAINT webhook_endpoints_disabled_reason_check ON webhook_endpoints; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT webhook_endpoints_disabled_reason_check ON inventory.webhook_endpoints IS 'disabled_reason: must be failing or gone';


--
-- Name: CONSTRAINT webhook_endpoints_event_types_check ON webhook_endpoints; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT webhook_endpoints_event_types_check ON inventory.webhook_endpoints IS 'event_types: must be one or more of purchase.pending, purchase.paid, purchase.cancelled, purchase.refunded, hold.expired,
drop.created, drop.updated, drop.sold_out, drop.cancelled, payment.flagged';


--
-- Name: CONSTRAINT webhook_endpoints_url_check ON webhook_endpoints; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT webhook_endpoints_url_check ON inventory.webhook_endpoints IS 'url: must be an http or https URL of at most 2000 characters, in ASCII, without a user, a password and a fragment';


--
-- Name: webhook_lanes; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.webhook_lanes (
    endpoint_id uuid NOT NULL,
    lane uuid NOT NULL,
    next_attempt_at timestamp with time zone DEFAULT now() NOT NULL,
    lease uuid
);


--
-- Name: TABLE webhook_lanes; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.webhook_lanes IS 'The queues of deliveries that are not empty. Deliveries of a lane are sent one after the other.';


--
-- Name: COLUMN webhook_lanes.lane; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.webhook_lanes.lane IS 'The drop; of what is about no drop, the endpoint.';


--
-- Name: COLUMN webhook_lanes.next_attempt_at; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.webhook_lanes.next_attempt_at IS 'When the lane is due. While a process has it, the end of its lease.';


--
-- Name: COLUMN webhook_lanes.lease; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.webhook_lanes.lease IS 'Of the process that has the lane, or had it last.';


--
-- Name: webhook_messages; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.webhook_messages (
    drop_id uuid,
    id bigint NOT NULL,
    message_id uuid DEFAULT inventory.uuid_v7() NOT NULL,
    type text NOT NULL,
    data json NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);


--
-- Name: TABLE webhook_messages; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.webhook_messages IS 'What is told to webhook endpoints, in the order of the commits.';


--
-- Name: COLUMN webhook_messages.drop_id; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.webhook_messages.drop_id IS 'Null: a test, or a payment that is not known.';


--
-- Name: COLUMN webhook_messages.message_id; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON COLUMN inventory.webhook_messages.message_id IS 'The header webhook-id, by which a receiver knows a repeated message.';


--
-- Name: webhook_messages_id_seq; Type: SEQUENCE; Schema: inventory; Owner: -
--

ALTER TABLE inventory.webhook_messages ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME inventory.webhook_messages_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: webhook_position; Type: TABLE; Schema: inventory; Owner: -
--

CREATE TABLE inventory.webhook_position (
    is_only boolean DEFAULT true NOT NULL,
    last_message bigint DEFAULT 0 NOT NULL,
    CONSTRAINT webhook_position_is_only_check CHECK (is_only)
);


--
-- Name: TABLE webhook_position; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON TABLE inventory.webhook_position IS 'One row: the last message of which deliveries were made.';


--
-- Name: CONSTRAINT webhook_position_is_only_check ON webhook_position; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT webhook_position_is_only_check ON inventory.webhook_position IS 'is_only: there is one row';


--
-- Name: schema_migrations; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.schema_migrations (
    version character varying NOT NULL
);


--
-- Name: baskets baskets_idempotency_key; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.baskets
    ADD CONSTRAINT baskets_idempotency_key UNIQUE (user_id, idempotency_key);


--
-- Name: baskets baskets_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.baskets
    ADD CONSTRAINT baskets_pkey PRIMARY KEY (id);


--
-- Name: changes changes_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.changes
    ADD CONSTRAINT changes_pkey PRIMARY KEY (transaction_id, drop_id);


--
-- Name: drop_changes drop_changes_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.drop_changes
    ADD CONSTRAINT drop_changes_pkey PRIMARY KEY (drop_id, id);


--
-- Name: drops drops_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.drops
    ADD CONSTRAINT drops_pkey PRIMARY KEY (id);


--
-- Name: event_epochs event_epochs_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.event_epochs
    ADD CONSTRAINT event_epochs_pkey PRIMARY KEY (first_id);


--
-- Name: event_key event_key_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.event_key
    ADD CONSTRAINT event_key_pkey PRIMARY KEY (is_only);


--
-- Name: events events_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (id, drop_id);


--
-- Name: function_files function_files_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.function_files
    ADD CONSTRAINT function_files_pkey PRIMARY KEY (path);


--
-- Name: function_sets function_sets_checksum_key; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.function_sets
    ADD CONSTRAINT function_sets_checksum_key UNIQUE (checksum);


--
-- Name: function_sets function_sets_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.function_sets
    ADD CONSTRAINT function_sets_pkey PRIMARY KEY (number);


--
-- Name: idempotency_keys idempotency_keys_key; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.idempotency_keys
    ADD CONSTRAINT idempotency_keys_key UNIQUE NULLS NOT DISTINCT (user_id, key);


--
-- Name: payment_events payment_events_event_id_key; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.payment_events
    ADD CONSTRAINT payment_events_event_id_key UNIQUE (provider, event_id);


--
-- Name: payment_events payment_events_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.payment_events
    ADD CONSTRAINT payment_events_pkey PRIMARY KEY (id);


--
-- Name: payments payments_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.payments
    ADD CONSTRAINT payments_pkey PRIMARY KEY (id);


--
-- Name: payments payments_provider_reference_key; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.payments
    ADD CONSTRAINT payments_provider_reference_key UNIQUE (provider, provider_reference);


--
-- Name: provider_calls provider_calls_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.provider_calls
    ADD CONSTRAINT provider_calls_pkey PRIMARY KEY (id);


--
-- Name: pruned_events pruned_events_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.pruned_events
    ADD CONSTRAINT pruned_events_pkey PRIMARY KEY (drop_id);


--
-- Name: purchases purchases_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.purchases
    ADD CONSTRAINT purchases_pkey PRIMARY KEY (id, drop_id);


--
-- Name: purchases purchases_reservation_key; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.purchases
    ADD CONSTRAINT purchases_reservation_key UNIQUE (reservation_id, drop_id);


--
-- Name: registered_names registered_names_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.registered_names
    ADD CONSTRAINT registered_names_pkey PRIMARY KEY (name_key);


--
-- Name: reservations reservations_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.reservations
    ADD CONSTRAINT reservations_pkey PRIMARY KEY (id, drop_id);


--
-- Name: settings settings_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.settings
    ADD CONSTRAINT settings_pkey PRIMARY KEY (is_only);


--
-- Name: ticket_key ticket_key_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.ticket_key
    ADD CONSTRAINT ticket_key_pkey PRIMARY KEY (is_only);


--
-- Name: users users_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (id);


--
-- Name: variants variants_name_key; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.variants
    ADD CONSTRAINT variants_name_key UNIQUE (drop_id, name);


--
-- Name: CONSTRAINT variants_name_key ON variants; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON CONSTRAINT variants_name_key ON inventory.variants IS 'variants.name: two variants of a drop have the same name';


--
-- Name: variants variants_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.variants
    ADD CONSTRAINT variants_pkey PRIMARY KEY (drop_id, id);


--
-- Name: watchers watchers_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.watchers
    ADD CONSTRAINT watchers_pkey PRIMARY KEY (process_id);


--
-- Name: webhook_deliveries webhook_deliveries_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.webhook_deliveries
    ADD CONSTRAINT webhook_deliveries_pkey PRIMARY KEY (endpoint_id, message);


--
-- Name: webhook_endpoints webhook_endpoints_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.webhook_endpoints
    ADD CONSTRAINT webhook_endpoints_pkey PRIMARY KEY (id);


--
-- Name: webhook_lanes webhook_lanes_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.webhook_lanes
    ADD CONSTRAINT webhook_lanes_pkey PRIMARY KEY (endpoint_id, lane);


--
-- Name: webhook_messages webhook_messages_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.webhook_messages
    ADD CONSTRAINT webhook_messages_pkey PRIMARY KEY (id);


--
-- Name: webhook_position webhook_position_pkey; Type: CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.webhook_position
    ADD CONSTRAINT webhook_position_pkey PRIMARY KEY (is_only);


--
-- Name: schema_migrations schema_migrations_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (version);


--
-- Name: drops_active_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX drops_active_idx ON inventory.drops USING btree (status, starts_at, ends_at);


--
-- Name: events_drop_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX events_drop_idx ON inventory.events USING btree (drop_id, id);


--
-- Name: INDEX events_drop_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.events_drop_idx IS 'The events of one drop, for clients that ask for that drop only.';


--
-- Name: events_user_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX events_user_idx ON inventory.events USING btree (user_id, id) WHERE (user_id IS NOT NULL);


--
-- Name: INDEX events_user_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.events_user_idx IS 'What happened to one user, for clients of certain drops that come back.';


--
-- Name: idempotency_keys_created_at_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX idempotency_keys_created_at_idx ON inventory.idempotency_keys USING btree (created_at);


--
-- Name: INDEX idempotency_keys_created_at_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.idempotency_keys_created_at_idx IS 'The oldest keys, for pruning.';


--
-- Name: payment_events_flagged_at_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX payment_events_flagged_at_idx ON inventory.payment_events USING btree (received_at DESC, id DESC) WHERE (outcome = 'flagged'::text);


--
-- Name: INDEX payment_events_flagged_at_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.payment_events_flagged_at_idx IS 'What the seller has to look at, the newest first.';


--
-- Name: payment_events_flagged_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX payment_events_flagged_idx ON inventory.payment_events USING btree (id DESC) WHERE (outcome = 'flagged'::text);


--
-- Name: INDEX payment_events_flagged_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.payment_events_flagged_idx IS 'Finds the events that the seller has to look at by id, because a cursor may be an id alone.';


--
-- Name: payment_events_payment_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX payment_events_payment_idx ON inventory.payment_events USING btree (payment_id, id) WHERE (payment_id IS NOT NULL);


--
-- Name: INDEX payment_events_payment_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.payment_events_payment_idx IS 'The events of a payment.';


--
-- Name: payments_created_at_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX payments_created_at_idx ON inventory.payments USING btree (created_at DESC, id DESC);


--
-- Name: INDEX payments_created_at_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.payments_created_at_idx IS 'All payments, for the seller.';


--
-- Name: payments_unsettled_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX payments_unsettled_idx ON inventory.payments USING btree (id) WHERE (((status <> 'paid'::text) OR (refunded_amount > (0)::numeric)) AND (updated_at IS NOT NULL));


--
-- Name: INDEX payments_unsettled_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.payments_unsettled_idx IS 'Payments that reconciliation looks at.';


--
-- Name: provider_calls_drop_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX provider_calls_drop_idx ON inventory.provider_calls USING btree (drop_id, id) WHERE (drop_id IS NOT NULL);


--
-- Name: INDEX provider_calls_drop_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.provider_calls_drop_idx IS 'Finds the calls of a drop for its seller.';


--
-- Name: provider_calls_given_up_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX provider_calls_given_up_idx ON inventory.provider_calls USING btree (id) WHERE (gave_up_at IS NOT NULL);


--
-- Name: INDEX provider_calls_given_up_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.provider_calls_given_up_idx IS 'Calls that were given up, to be counted.';


--
-- Name: provider_calls_next_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX provider_calls_next_idx ON inventory.provider_calls USING btree (next_attempt_at) WHERE ((done_at IS NULL) AND (gave_up_at IS NULL));


--
-- Name: INDEX provider_calls_next_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.provider_calls_next_idx IS 'Calls that are open, by the time of their next attempt.';


--
-- Name: provider_calls_payment_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX provider_calls_payment_idx ON inventory.provider_calls USING btree (payment_id, id);


--
-- Name: INDEX provider_calls_payment_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.provider_calls_payment_idx IS 'The calls of a payment, in their order.';


--
-- Name: purchases_due_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX purchases_due_idx ON inventory.purchases USING btree (drop_id, payment_expires_at) WHERE ((status = 'pending'::text) AND (payment_expires_at IS NOT NULL) AND (drop_id IS NOT NULL));


--
-- Name: INDEX purchases_due_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.purchases_due_idx IS 'Pending purchases of a drop by the end of their payment.';


--
-- Name: purchases_idempotency_key; Type: INDEX; Schema: inventory; Owner: -
--

CREATE UNIQUE INDEX purchases_idempotency_key ON inventory.purchases USING btree (drop_id, user_id, idempotency_key) WHERE (idempotency_key IS NOT NULL);


--
-- Name: purchases_latest_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX purchases_latest_idx ON inventory.purchases USING btree (drop_id, created_at DESC, id DESC) WHERE (status = 'paid'::text);


--
-- Name: INDEX purchases_latest_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.purchases_latest_idx IS 'The latest purchasers of a drop.';


--
-- Name: purchases_of_payments_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX purchases_of_payments_idx ON inventory.purchases USING btree (drop_id, created_at DESC, payment_id DESC) WHERE (payment_id IS NOT NULL);


--
-- Name: INDEX purchases_of_payments_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.purchases_of_payments_idx IS 'The payments of a drop, for its seller: they are as old as their purchases.';


--
-- Name: purchases_of_user_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX purchases_of_user_idx ON inventory.purchases USING btree (drop_id, user_id) WHERE ((status = ANY (ARRAY['pending'::text, 'paid'::text])) AND (user_id IS NOT NULL));


--
-- Name: INDEX purchases_of_user_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.purchases_of_user_idx IS 'The units that a user has bought on a drop, for its limit.';


--
-- Name: purchases_payment_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX purchases_payment_idx ON inventory.purchases USING btree (payment_id, id) WHERE (payment_id IS NOT NULL);


--
-- Name: INDEX purchases_payment_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.purchases_payment_idx IS 'The purchases of a payment.';


--
-- Name: purchases_refunded_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX purchases_refunded_idx ON inventory.purchases USING btree (drop_id, refunded_at) WHERE (refunded_qty > 0);


--
-- Name: INDEX purchases_refunded_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.purchases_refunded_idx IS 'Purchases of a drop of which units were refunded, for charts.';


--
-- Name: purchases_unpaid_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX purchases_unpaid_idx ON inventory.purchases USING btree (drop_id, status, created_at DESC) WHERE ((status <> 'paid'::text) AND (created_at IS NOT NULL));


--
-- Name: INDEX purchases_unpaid_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.purchases_unpaid_idx IS 'Purchases of a drop that are not paid, or not any more, for its seller.';


--
-- Name: purchases_user_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX purchases_user_idx ON inventory.purchases USING btree (user_id, created_at DESC);


--
-- Name: registered_names_user_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX registered_names_user_idx ON inventory.registered_names USING btree (user_id);


--
-- Name: INDEX registered_names_user_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.registered_names_user_idx IS 'The names of one user, to give them back.';


--
-- Name: reservations_active_key; Type: INDEX; Schema: inventory; Owner: -
--

CREATE UNIQUE INDEX reservations_active_key ON inventory.reservations USING btree (drop_id, user_id, variant_id) NULLS NOT DISTINCT WHERE ((status = 'ACTIVE'::text) AND (drop_id IS NOT NULL) AND (user_id IS NOT NULL));


--
-- Name: INDEX reservations_active_key; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.reservations_active_key IS 'A user has at most one ACTIVE reservation of a variant, or of a drop without variants.';


--
-- Name: reservations_basket_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX reservations_basket_idx ON inventory.reservations USING btree (basket_id) WHERE (basket_id IS NOT NULL);


--
-- Name: INDEX reservations_basket_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.reservations_basket_idx IS 'The holds of a basket.';


--
-- Name: reservations_due_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX reservations_due_idx ON inventory.reservations USING btree (drop_id, expires_at) WHERE ((status = 'ACTIVE'::text) AND (expires_at IS NOT NULL) AND (drop_id IS NOT NULL));


--
-- Name: INDEX reservations_due_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.reservations_due_idx IS 'Due holds of a drop.';


--
-- Name: reservations_idempotency_key; Type: INDEX; Schema: inventory; Owner: -
--

CREATE UNIQUE INDEX reservations_idempotency_key ON inventory.reservations USING btree (drop_id, user_id, idempotency_key) WHERE (idempotency_key IS NOT NULL);


--
-- Name: INDEX reservations_idempotency_key; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.reservations_idempotency_key IS 'A key belongs to one user on one drop.';


--
-- Name: reservations_lapsed_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX reservations_lapsed_idx ON inventory.reservations USING btree (drop_id, user_id, id) WHERE (status = ANY (ARRAY['EXPIRED'::text, 'CANCELLED'::text]));


--
-- Name: INDEX reservations_lapsed_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.reservations_lapsed_idx IS 'The holds of a user that ran out or were cancelled, for what a late purchase is told.';


--
-- Name: reservations_past_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX reservations_past_idx ON inventory.reservations USING btree (drop_id, status, created_at DESC) WHERE ((status <> 'ACTIVE'::text) AND (created_at IS NOT NULL));


--
-- Name: INDEX reservations_past_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.reservations_past_idx IS 'Holds of a drop that ran out, were cancelled or were bought, for its seller.';


--
-- Name: reservations_user_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX reservations_user_idx ON inventory.reservations USING btree (user_id) WHERE ((status = 'ACTIVE'::text) AND (expires_at IS NOT NULL) AND (user_id IS NOT NULL));


--
-- Name: users_username_key; Type: INDEX; Schema: inventory; Owner: -
--

CREATE UNIQUE INDEX users_username_key ON inventory.users USING btree (inventory.name_key(username));


--
-- Name: INDEX users_username_key; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.users_username_key IS 'No two users have usernames that look alike.';


--
-- Name: webhook_deliveries_created_at_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX webhook_deliveries_created_at_idx ON inventory.webhook_deliveries USING btree (endpoint_id, created_at DESC, id DESC);


--
-- Name: INDEX webhook_deliveries_created_at_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.webhook_deliveries_created_at_idx IS 'The deliveries of an endpoint, the newest first.';


--
-- Name: webhook_deliveries_id_key; Type: INDEX; Schema: inventory; Owner: -
--

CREATE UNIQUE INDEX webhook_deliveries_id_key ON inventory.webhook_deliveries USING btree (id);


--
-- Name: INDEX webhook_deliveries_id_key; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.webhook_deliveries_id_key IS 'A delivery by its id, for a replay.';


--
-- Name: webhook_deliveries_pending_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX webhook_deliveries_pending_idx ON inventory.webhook_deliveries USING btree (endpoint_id, lane, message) WHERE (status = 'pending'::text);


--
-- Name: INDEX webhook_deliveries_pending_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.webhook_deliveries_pending_idx IS 'The next deliveries of a lane.';


--
-- Name: webhook_lanes_due_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX webhook_lanes_due_idx ON inventory.webhook_lanes USING btree (endpoint_id, next_attempt_at);


--
-- Name: INDEX webhook_lanes_due_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.webhook_lanes_due_idx IS 'The lanes of an endpoint that are due.';


--
-- Name: webhook_messages_created_at_idx; Type: INDEX; Schema: inventory; Owner: -
--

CREATE INDEX webhook_messages_created_at_idx ON inventory.webhook_messages USING btree (created_at);


--
-- Name: INDEX webhook_messages_created_at_idx; Type: COMMENT; Schema: inventory; Owner: -
--

COMMENT ON INDEX inventory.webhook_messages_created_at_idx IS 'The oldest messages, for pruning.';


--
-- Name: changes changes_announce; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE CONSTRAINT TRIGGER changes_announce AFTER INSERT ON inventory.changes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION inventory.announce_changes();


--
-- Name: drop_changes drop_changes_keep; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER drop_changes_keep BEFORE DELETE OR UPDATE OR TRUNCATE ON inventory.drop_changes FOR EACH STATEMENT EXECUTE FUNCTION inventory.refuse_rewriting();


--
-- Name: drops drops_delete_keep; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER drops_delete_keep BEFORE DELETE ON inventory.drops FOR EACH ROW EXECUTE FUNCTION inventory.keep_drop_with_holds();


--
-- Name: drops drops_delete_note; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER drops_delete_note AFTER DELETE ON inventory.drops FOR EACH ROW EXECUTE FUNCTION inventory.note_drop();


--
-- Name: drops drops_insert_note; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER drops_insert_note AFTER INSERT ON inventory.drops FOR EACH ROW EXECUTE FUNCTION inventory.note_drop();


--
-- Name: drops drops_raise_revision; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER drops_raise_revision BEFORE UPDATE OF name, price, total_stock, starts_at, ends_at, status, paused_at, limit_per_user, hold_seconds, rehold_after_seconds, extension_seconds, image_url ON inventory.drops FOR EACH ROW EXECUTE FUNCTION inventory.raise_revision();


--
-- Name: drops drops_stock_note; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER drops_stock_note AFTER UPDATE ON inventory.drops REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION inventory.note_stock();


--
-- Name: drops drops_truncate_keep; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER drops_truncate_keep AFTER TRUNCATE ON inventory.drops FOR EACH STATEMENT EXECUTE FUNCTION inventory.keep_together();


--
-- Name: drops drops_update_note; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER drops_update_note AFTER UPDATE OF id, name, price, currency, created_by, total_stock, starts_at, ends_at, status, paused_at, limit_per_user, hold_seconds, rehold_after_seconds, extension_seconds, image_url ON inventory.drops FOR EACH ROW EXECUTE FUNCTION inventory.note_drop();


--
-- Name: payment_events payment_events_keep; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER payment_events_keep BEFORE DELETE OR UPDATE OR TRUNCATE ON inventory.payment_events FOR EACH STATEMENT EXECUTE FUNCTION inventory.refuse_rewriting();


--
-- Name: payment_events payment_events_tell; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE CONSTRAINT TRIGGER payment_events_tell AFTER INSERT ON inventory.payment_events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN ((new.outcome = 'flagged'::text)) EXECUTE FUNCTION inventory.tell_payment_problem();


--
-- Name: payments payments_insert_note; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER payments_insert_note AFTER INSERT ON inventory.payments REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION inventory.note_payments();


--
-- Name: payments payments_update_note; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER payments_update_note AFTER UPDATE ON inventory.payments REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION inventory.note_payments();


--
-- Name: purchases purchases_delete_note; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER purchases_delete_note AFTER DELETE ON inventory.purchases REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION inventory.note_purchases();


--
-- Name: purchases purchases_earlier_end; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER purchases_earlier_end AFTER UPDATE OF drop_id, status, payment_expires_at ON inventory.purchases FOR EACH ROW WHEN (((new.status = 'pending'::text) AND (new.payment_expires_at IS NOT NULL) AND ((old.status <> 'pending'::text) OR (new.drop_id <> old.drop_id) OR (old.payment_expires_at IS NULL) OR (new.payment_expires_at < old.payment_expires_at)))) EXECUTE FUNCTION inventory.note_earlier_payment_end();


--
-- Name: purchases purchases_hold_check; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER purchases_hold_check AFTER UPDATE OF reservation_id, drop_id ON inventory.purchases FOR EACH ROW WHEN (((new.reservation_id <> old.reservation_id) OR (new.drop_id <> old.drop_id))) EXECUTE FUNCTION inventory.check_hold_of_sale();


--
-- Name: purchases purchases_insert_note; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER purchases_insert_note AFTER INSERT ON inventory.purchases REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION inventory.note_purchases();


--
-- Name: purchases purchases_truncate_keep; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER purchases_truncate_keep AFTER TRUNCATE ON inventory.purchases FOR EACH STATEMENT EXECUTE FUNCTION inventory.keep_together();


--
-- Name: purchases purchases_update_note; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER purchases_update_note AFTER UPDATE ON inventory.purchases REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION inventory.note_purchases();


--
-- Name: reservations reservations_delete_keep; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER reservations_delete_keep AFTER DELETE ON inventory.reservations FOR EACH ROW EXECUTE FUNCTION inventory.keep_hold_of_sale();


--
-- Name: reservations reservations_delete_note; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER reservations_delete_note AFTER DELETE ON inventory.reservations REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION inventory.note_reservations();


--
-- Name: reservations reservations_earlier_end; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER reservations_earlier_end AFTER UPDATE OF drop_id, status, expires_at ON inventory.reservations FOR EACH ROW WHEN (((new.status = 'ACTIVE'::text) AND ((old.status <> 'ACTIVE'::text) OR (new.drop_id <> old.drop_id) OR (new.expires_at < old.expires_at)))) EXECUTE FUNCTION inventory.note_earlier_end();


--
-- Name: reservations reservations_insert_note; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER reservations_insert_note AFTER INSERT ON inventory.reservations REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION inventory.note_reservations();


--
-- Name: reservations reservations_truncate_keep; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER reservations_truncate_keep AFTER TRUNCATE ON inventory.reservations FOR EACH STATEMENT EXECUTE FUNCTION inventory.keep_together();


--
-- Name: reservations reservations_update_keep; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER reservations_update_keep AFTER UPDATE OF id, drop_id ON inventory.reservations FOR EACH ROW WHEN (((new.id <> old.id) OR (new.drop_id <> old.drop_id))) EXECUTE FUNCTION inventory.keep_hold_of_sale();


--
-- Name: reservations reservations_update_note; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER reservations_update_note AFTER UPDATE ON inventory.reservations REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION inventory.note_reservations();


--
-- Name: reservations reservations_user_check; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER reservations_user_check AFTER UPDATE OF user_id ON inventory.reservations FOR EACH ROW WHEN ((new.user_id <> old.user_id)) EXECUTE FUNCTION inventory.check_user_of_hold();


--
-- Name: users users_delete_keep; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER users_delete_keep AFTER DELETE ON inventory.users FOR EACH ROW EXECUTE FUNCTION inventory.keep_users();


--
-- Name: users users_rename_note; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER users_rename_note AFTER UPDATE OF username ON inventory.users FOR EACH ROW WHEN ((old.username <> new.username)) EXECUTE FUNCTION inventory.note_user();


--
-- Name: users users_truncate_keep; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER users_truncate_keep AFTER TRUNCATE ON inventory.users FOR EACH STATEMENT EXECUTE FUNCTION inventory.keep_users();


--
-- Name: users users_update_keep; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER users_update_keep AFTER UPDATE OF id ON inventory.users FOR EACH ROW WHEN ((new.id <> old.id)) EXECUTE FUNCTION inventory.keep_users();


--
-- Name: variants variants_delete_note; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER variants_delete_note AFTER DELETE ON inventory.variants REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION inventory.note_variants();


--
-- Name: variants variants_insert_note; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER variants_insert_note AFTER INSERT ON inventory.variants REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION inventory.note_variants();


--
-- Name: variants variants_truncate_keep; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER variants_truncate_keep AFTER TRUNCATE ON inventory.variants FOR EACH STATEMENT EXECUTE FUNCTION inventory.keep_together();


--
-- Name: variants variants_update_note; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER variants_update_note AFTER UPDATE ON inventory.variants REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION inventory.note_variants();


--
-- Name: webhook_endpoints webhook_endpoints_note; Type: TRIGGER; Schema: inventory; Owner: -
--

CREATE TRIGGER webhook_endpoints_note AFTER INSERT OR DELETE OR UPDATE ON inventory.webhook_endpoints FOR EACH STATEMENT EXECUTE FUNCTION inventory.note_webhook_endpoints();


--
-- Name: baskets baskets_user_id_fkey; Type: FK CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.baskets
    ADD CONSTRAINT baskets_user_id_fkey FOREIGN KEY (user_id) REFERENCES inventory.users(id);


--
-- Name: drops drops_created_by_fkey; Type: FK CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.drops
    ADD CONSTRAINT drops_created_by_fkey FOREIGN KEY (created_by) REFERENCES inventory.users(id);


--
-- Name: variants variants_drop_id_fkey; Type: FK CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.variants
    ADD CONSTRAINT variants_drop_id_fkey FOREIGN KEY (drop_id) REFERENCES inventory.drops(id);


--
-- Name: webhook_deliveries webhook_deliveries_endpoint_id_fkey; Type: FK CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.webhook_deliveries
    ADD CONSTRAINT webhook_deliveries_endpoint_id_fkey FOREIGN KEY (endpoint_id) REFERENCES inventory.webhook_endpoints(id) ON DELETE CASCADE;


--
-- Name: webhook_lanes webhook_lanes_endpoint_id_fkey; Type: FK CONSTRAINT; Schema: inventory; Owner: -
--

ALTER TABLE ONLY inventory.webhook_lanes
    ADD CONSTRAINT webhook_lanes_endpoint_id_fkey FOREIGN KEY (endpoint_id) REFERENCES inventory.webhook_endpoints(id) ON DELETE CASCADE;


--
-- PostgreSQL database dump complete
--

\unrestrict dbmate


--
-- Dbmate schema migrations
--

INSERT INTO public.schema_migrations (version) VALUES
    ('20261122090000'),
    ('20261122130000'),
    ('20261128140000'),
    ('20261128190010'),
    ('20261128190011'),
    ('20261128190012'),
    ('20261128190020'),
    ('20261128190030'),
    ('20261128190031'),
    ('20261128200000'),
    ('20261128200010'),
    ('20261128200020'),
    ('20261128200030'),
    ('20261128200050'),
    ('20261128200060'),
    ('20261129110000'),
    ('20261129110010'),
    ('20261129150000'),
    ('20261129150010'),
    ('20261129150020'),
    ('20261129190000'),
    ('20261129220000'),
    ('20261129221000'),
    ('20261129222000'),
    ('20261129224000'),
    ('20261130010000'),
    ('20261130015000'),
    ('20261130020000'),
    ('20261130021000'),
    ('20261130030000'),
    ('20261130040000'),
    ('20261130050000'),
    ('20261130060000'),
    ('20261130061000'),
    ('20261130070000'),
    ('20261130080000'),
    ('20261130081000'),
    ('20261201000000'),
    ('20261201010000'),
    ('20261201020000'),
    ('20261201030000'),
    ('20261201040000');
