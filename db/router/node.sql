-- The schema of one node on a router: every public function as it is on this node, by PL/Proxy.
--
-- `python -m tools.router` writes this file from the functions of a node. `lastpair migrate` runs it for each node, with the
-- number of the node instead of the 0 in node_0.

create or replace function node_0.activity(p_seconds integer DEFAULT 3600, p_drop_ids uuid[] DEFAULT NULL::uuid[])
returns TABLE(
  "position" text,
  "from" timestamp with time zone,
  "to" timestamp with time zone,
  events json,
  bucket_seconds integer,
  drops json
)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.activity;
$$;

create or replace function node_0.advance_drops()
returns SETOF api.drop_row
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.advance_drops;
$$;

create or replace function node_0.audit()
returns TABLE(drop_id uuid, invariant text, expected bigint, found bigint)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.audit;
$$;

create or replace function node_0.call(p_role text, p_claims text, p_function text, p_arguments json)
returns TABLE(status integer, code text, message text, rows json)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.call;
$$;

create or replace function node_0.cancel_basket(p_basket_id uuid, p_user_id uuid)
returns SETOF api.basket_row
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.cancel_basket;
$$;

create or replace function node_0.cancel_batch(p_requests api.cancel_request[])
returns SETOF api.outcome
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.cancel_batch;
$$;

create or replace function node_0.cancel_drop(
  p_drop_id uuid,
  p_refund boolean DEFAULT false,
  p_cancelled_by uuid DEFAULT NULL::uuid,
  p_idempotency_key text DEFAULT NULL::text
)
returns TABLE(drop api.drop_row, remaining bigint, replayed boolean)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.cancel_drop;
$$;

create or replace function node_0.cancel_payment(p_payment_id uuid, p_user_id uuid)
returns SETOF api.payment_row
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.cancel_payment;
$$;

create or replace function node_0.cancel_reservation(p_reservation_id uuid, p_user_id uuid)
returns SETOF api.reservation_row
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.cancel_reservation;
$$;

create or replace function node_0.claim_names(p_requests api.user_request[])
returns TABLE(n integer, is_granted boolean)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.claim_names;
$$;

create or replace function node_0.claim_reconciliation(p_interval_seconds integer)
returns boolean
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.claim_reconciliation;
$$;

create or replace function node_0.copy_webhook_endpoint(p_copy json)
returns void
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.copy_webhook_endpoint;
$$;

create or replace function node_0.count_provider_calls()
returns TABLE(waiting bigint, gave_up bigint)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.count_provider_calls;
$$;

create or replace function node_0.count_watchers(
  p_process_id uuid,
  p_streams integer,
  OUT watchers bigint,
  OUT as_of timestamp with time zone
)
returns record
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.count_watchers;
$$;

create or replace function node_0.create_drop(
  p_name text,
  p_price numeric,
  p_total_stock integer,
  p_created_by uuid,
  p_starts_at timestamp with time zone DEFAULT NULL::timestamp with time zone,
  p_ends_at timestamp with time zone DEFAULT NULL::timestamp with time zone,
  p_status text DEFAULT NULL::text,
  p_variants jsonb DEFAULT NULL::jsonb,
  p_terms jsonb DEFAULT NULL::jsonb,
  p_idempotency_key text DEFAULT NULL::text
)
returns SETOF api.drop_row
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.create_drop;
$$;

create or replace function node_0.create_drop_from_json(p_drop jsonb, p_created_by uuid, p_idempotency_key text DEFAULT NULL::text)
returns SETOF api.outcome
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.create_drop_from_json;
$$;

create or replace function node_0.create_stream_ticket(p_user_id uuid)
returns TABLE(ticket text, expires_at timestamp with time zone)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.create_stream_ticket;
$$;

create or replace function node_0.create_user(p_username text, p_idempotency_key text DEFAULT NULL::text)
returns SETOF api."user"
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.create_user;
$$;

create or replace function node_0.create_user_outcome(p_username text, p_idempotency_key text)
returns SETOF api.outcome
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.create_user_outcome;
$$;

create or replace function node_0.create_webhook_endpoint(
  p_url text,
  p_event_types text[],
  p_made_by uuid DEFAULT NULL::uuid,
  p_idempotency_key text DEFAULT NULL::text
)
returns TABLE(replayed boolean, endpoint api.webhook_endpoint_row, secret text)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.create_webhook_endpoint;
$$;

create or replace function node_0.currencies()
returns TABLE(currency text, decimals integer)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.currencies;
$$;

create or replace function node_0.cursor_time(p_list text, p_id uuid)
returns timestamp with time zone
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.cursor_time;
$$;

create or replace function node_0.delete_webhook_endpoint(p_endpoint_id uuid)
returns SETOF api.webhook_endpoint_row
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.delete_webhook_endpoint;
$$;

create or replace function node_0.deployed()
returns TABLE(path text, checksum text)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.deployed;
$$;

create or replace function node_0.drop_money(p_drop_id uuid DEFAULT NULL::uuid)
returns TABLE(
  currency text,
  sold_for numeric,
  refunded numeric,
  open numeric,
  counts jsonb
)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.drop_money;
$$;

create or replace function node_0.ensure_epoch(p_is_lost boolean DEFAULT false)
returns boolean
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.ensure_epoch;
$$;

create or replace function node_0.ensure_user(p_user_id uuid, p_username text DEFAULT NULL::text)
returns SETOF api."user"
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.ensure_user;
$$;

create or replace function node_0.ensure_user_batch(p_requests api.user_request[])
returns SETOF api.outcome
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.ensure_user_batch;
$$;

create or replace function node_0.errors()
returns TABLE(code text, status integer, message text)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.errors;
$$;

create or replace function node_0.event_key()
returns bytea
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.event_key;
$$;

create or replace function node_0.events_after(
  p_after bigint,
  p_limit integer DEFAULT 1000,
  p_drop_ids uuid[] DEFAULT NULL::uuid[]
)
returns TABLE(type text, id text, drop_id uuid, data json)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.events_after;
$$;

create or replace function node_0.events_after(p_after bigint, p_limit integer, p_drop_ids uuid[], p_user_id uuid)
returns TABLE(type text, id text, drop_id uuid, user_id uuid, data json)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.events_after;
$$;

create or replace function node_0.expire_payments(p_limit integer DEFAULT 1000)
returns integer
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.expire_payments;
$$;

create or replace function node_0.expire_reservations(p_limit integer DEFAULT 1000)
returns SETOF api.reservation_row
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.expire_reservations;
$$;

create or replace function node_0.extend_reservation(
  p_reservation_id uuid,
  p_user_id uuid,
  p_idempotency_key text DEFAULT NULL::text
)
returns TABLE(reservation api.reservation_row, replayed boolean)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.extend_reservation;
$$;

create or replace function node_0.fail_provider_call(p_id uuid, p_error text, p_is_final boolean DEFAULT false)
returns void
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.fail_provider_call;
$$;

create or replace function node_0.fan_out_webhooks(p_limit integer)
returns integer
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.fan_out_webhooks;
$$;

create or replace function node_0.finish_provider_call(
  p_id uuid,
  p_provider_reference text DEFAULT NULL::text,
  p_client_secret text DEFAULT NULL::text,
  p_url text DEFAULT NULL::text
)
returns void
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.finish_provider_call;
$$;

create or replace function node_0.finish_webhook_deliveries(
  p_endpoint_id uuid,
  p_lane uuid,
  p_lease uuid,
  p_results json,
  p_is_gone boolean
)
returns void
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.finish_webhook_deliveries;
$$;

create or replace function node_0.forget_user(p_user_id uuid)
returns SETOF api."user"
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.forget_user;
$$;

create or replace function node_0.get_basket(p_basket_id uuid, p_user_id uuid)
returns SETOF api.basket_row
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.get_basket;
$$;

create or replace function node_0.get_drop(p_drop_id uuid, p_drafts boolean DEFAULT true)
returns SETOF api.drop_row
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.get_drop;
$$;

create or replace function node_0.get_payment(p_payment_id uuid, p_user_id uuid)
returns SETOF api.payment_row
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.get_payment;
$$;

create or replace function node_0.get_purchase(p_purchase_id uuid, p_user_id uuid)
returns SETOF api.purchase_row
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.get_purchase;
$$;

create or replace function node_0.get_reservation(p_reservation_id uuid, p_user_id uuid)
returns SETOF api.reservation_row
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.get_reservation;
$$;

create or replace function node_0.get_webhook_endpoint(p_endpoint_id uuid)
returns SETOF api.webhook_endpoint_row
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.get_webhook_endpoint;
$$;

create or replace function node_0.has_idempotency_key(p_user_id uuid, p_key text)
returns boolean
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.has_idempotency_key;
$$;

create or replace function node_0.help()
returns TABLE(function text, arguments text, does text)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.help;
$$;

create or replace function node_0.history(
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
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.history;
$$;

create or replace function node_0.is_superseded(p_checksum text)
returns boolean
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.is_superseded;
$$;

create or replace function node_0.knows_payment(p_provider text, p_provider_reference text)
returns boolean
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.knows_payment;
$$;

create or replace function node_0.list_drops(
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
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.list_drops;
$$;

create or replace function node_0.list_payment_problems(
  p_limit integer DEFAULT 50,
  p_before bigint DEFAULT NULL::bigint,
  p_before_at timestamp with time zone DEFAULT NULL::timestamp with time zone
)
returns TABLE(
  id bigint,
  at timestamp with time zone,
  problem text,
  provider text,
  event_id text,
  status text,
  amount numeric,
  currency text,
  refunded_amount numeric,
  payment_id uuid,
  drop_id uuid,
  user_id uuid,
  username text,
  payment_status text,
  payment_amount numeric,
  payment_currency text
)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.list_payment_problems;
$$;

create or replace function node_0.list_payments(
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
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.list_payments;
$$;

create or replace function node_0.list_provider_calls(
  p_drop_id uuid DEFAULT NULL::uuid,
  p_limit integer DEFAULT 50,
  p_after uuid DEFAULT NULL::uuid,
  p_after_at timestamp with time zone DEFAULT NULL::timestamp with time zone
)
returns SETOF api.provider_call_row
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.list_provider_calls;
$$;

create or replace function node_0.list_purchases(
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
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.list_purchases;
$$;

create or replace function node_0.list_reservations(
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
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.list_reservations;
$$;

create or replace function node_0.list_webhook_deliveries(
  p_endpoint_id uuid,
  p_status text DEFAULT NULL::text,
  p_type text DEFAULT NULL::text,
  p_drop_id uuid DEFAULT NULL::uuid,
  p_limit integer DEFAULT 50,
  p_after uuid DEFAULT NULL::uuid,
  p_after_at timestamp with time zone DEFAULT NULL::timestamp with time zone
)
returns SETOF api.webhook_delivery_row
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.list_webhook_deliveries;
$$;

create or replace function node_0.list_webhook_endpoints(
  p_limit integer DEFAULT 50,
  p_after uuid DEFAULT NULL::uuid,
  p_after_at timestamp with time zone DEFAULT NULL::timestamp with time zone
)
returns SETOF api.webhook_endpoint_row
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.list_webhook_endpoints;
$$;

create or replace function node_0.load()
returns bigint
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.load;
$$;

create or replace function node_0.my_purchases(
  p_user_id uuid,
  p_limit integer DEFAULT 50,
  p_after uuid DEFAULT NULL::uuid,
  p_after_at timestamp with time zone DEFAULT NULL::timestamp with time zone
)
returns SETOF api.purchase_row
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.my_purchases;
$$;

create or replace function node_0.my_reservations(
  p_user_id uuid,
  p_limit integer DEFAULT 50,
  p_after uuid DEFAULT NULL::uuid,
  p_after_at timestamp with time zone DEFAULT NULL::timestamp with time zone
)
returns SETOF api.reservation_row
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.my_reservations;
$$;

create or replace function node_0.names_of(p_user_ids uuid[])
returns TABLE(user_id uuid, username text, is_forgotten boolean)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.names_of;
$$;

create or replace function node_0.node()
returns integer
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.node;
$$;

create or replace function node_0.on_sale_version(p_limit integer DEFAULT 50, p_seen text DEFAULT NULL::text)
returns text
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.on_sale_version;
$$;

create or replace function node_0.open_work()
returns TABLE(what text, number bigint)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.open_work;
$$;

create or replace function node_0.prune_events(p_retention_seconds integer, p_limit integer DEFAULT 10000)
returns bigint
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.prune_events;
$$;

create or replace function node_0.prune_idempotency_keys(p_retention_seconds integer)
returns bigint
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.prune_idempotency_keys;
$$;

create or replace function node_0.prune_webhooks(p_retention_seconds integer, p_limit integer)
returns bigint
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.prune_webhooks;
$$;

create or replace function node_0.purchase(
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
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.purchase;
$$;

create or replace function node_0.purchase_basket(p_basket_id uuid, p_user_id uuid, p_idempotency_key text DEFAULT NULL::text)
returns TABLE(purchase api.purchase_row, replayed boolean)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.purchase_basket;
$$;

create or replace function node_0.purchase_batch(p_requests api.purchase_request[])
returns SETOF api.outcome
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.purchase_batch;
$$;

create or replace function node_0.record_payment_event(p_event api.payment_event)
returns TABLE(outcome text, problem text, payment api.payment_row)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.record_payment_event;
$$;

create or replace function node_0.redeem_stream_ticket(p_ticket text)
returns uuid
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.redeem_stream_ticket;
$$;

create or replace function node_0.refund_drop(
  p_drop_id uuid,
  p_limit integer DEFAULT 1000,
  p_refunded_by uuid DEFAULT NULL::uuid
)
returns TABLE(refunded integer, remaining bigint)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.refund_drop;
$$;

create or replace function node_0.refund_purchase(
  p_purchase_id uuid,
  p_refunded_by uuid DEFAULT NULL::uuid,
  p_idempotency_key text DEFAULT NULL::text,
  p_qty integer DEFAULT NULL::integer
)
returns SETOF api.purchase_row
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.refund_purchase;
$$;

create or replace function node_0.refund_purchase_outcome(
  p_purchase_id uuid,
  p_refunded_by uuid,
  p_idempotency_key text,
  p_qty integer DEFAULT NULL::integer
)
returns SETOF api.outcome
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.refund_purchase_outcome;
$$;

create or replace function node_0.relayed_events_after(p_after bigint, p_limit integer)
returns TABLE(type text, id text, drop_id uuid, user_id uuid, data json)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.relayed_events_after;
$$;

create or replace function node_0.release_name(p_user_id uuid, p_username text DEFAULT NULL::text)
returns void
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.release_name;
$$;

create or replace function node_0.rename_user_batch(p_requests api.user_request[])
returns integer
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.rename_user_batch;
$$;

create or replace function node_0.replay_webhook_delivery(
  p_delivery_id uuid,
  p_replayed_by uuid DEFAULT NULL::uuid,
  p_idempotency_key text DEFAULT NULL::text
)
returns TABLE(replayed boolean, delivery api.webhook_delivery_row)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.replay_webhook_delivery;
$$;

create or replace function node_0.reservation_history(p_reservation_id uuid, p_user_id uuid)
returns TABLE(at timestamp with time zone, action text, user_id uuid, details jsonb)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.reservation_history;
$$;

create or replace function node_0.reserve(
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
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.reserve;
$$;

create or replace function node_0.reserve_basket(
  p_user_id uuid,
  p_items api.basket_item[],
  p_idempotency_key text DEFAULT NULL::text,
  p_ttl_seconds integer DEFAULT 60
)
returns TABLE(
  index integer,
  code text,
  message text,
  replayed boolean,
  basket api.basket_row
)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.reserve_basket;
$$;

create or replace function node_0.reserve_basket_batch(p_requests api.basket_request[], p_ttl_seconds integer DEFAULT 60)
returns SETOF api.outcome
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.reserve_basket_batch;
$$;

create or replace function node_0.reserve_batch(p_requests api.reserve_request[], p_ttl_seconds integer DEFAULT 60)
returns SETOF api.outcome
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.reserve_batch;
$$;

create or replace function node_0.retry_provider_call(p_id uuid)
returns SETOF api.provider_call_row
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.retry_provider_call;
$$;

create or replace function node_0.rotate_webhook_secret(
  p_endpoint_id uuid,
  p_rotated_by uuid DEFAULT NULL::uuid,
  p_idempotency_key text DEFAULT NULL::text
)
returns TABLE(replayed boolean, endpoint api.webhook_endpoint_row, secret text)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.rotate_webhook_secret;
$$;

create or replace function node_0.send_test_webhook(
  p_endpoint_id uuid,
  p_sent_by uuid DEFAULT NULL::uuid,
  p_idempotency_key text DEFAULT NULL::text
)
returns TABLE(replayed boolean, delivery api.webhook_delivery_row)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.send_test_webhook;
$$;

create or replace function node_0.set_payment_provider(p_provider text, p_ttl_seconds integer)
returns void
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.set_payment_provider;
$$;

create or replace function node_0.set_purchaser_names(p_names text)
returns void
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.set_purchaser_names;
$$;

create or replace function node_0.snapshot(p_drop_ids uuid[] DEFAULT NULL::uuid[])
returns TABLE(type text, id text, drop_id uuid, data json)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.snapshot;
$$;

create or replace function node_0.take_provider_calls(p_limit integer, p_lease_seconds integer, p_payment_id uuid DEFAULT NULL::uuid)
returns SETOF api.provider_call
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.take_provider_calls;
$$;

create or replace function node_0.take_webhook_deliveries(p_busy uuid[], p_lanes integer, p_limit integer, p_lease_seconds integer)
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
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.take_webhook_deliveries;
$$;

create or replace function node_0.unsettled_payments(
  p_older_than_seconds integer DEFAULT 0,
  p_after uuid DEFAULT NULL::uuid,
  p_limit integer DEFAULT 100
)
returns SETOF api.payment_row
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.unsettled_payments;
$$;

create or replace function node_0.update_drop(
  p_drop_id uuid,
  p_changes jsonb,
  p_if_revision integer DEFAULT NULL::integer,
  p_changed_by uuid DEFAULT NULL::uuid
)
returns SETOF api.drop_row
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.update_drop;
$$;

create or replace function node_0.update_webhook_endpoint(p_endpoint_id uuid, p_changes jsonb)
returns SETOF api.webhook_endpoint_row
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.update_webhook_endpoint;
$$;

create or replace function node_0.webhook_backlog()
returns TABLE(pending bigint, lag_seconds double precision, disabled bigint)
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.webhook_backlog;
$$;

create or replace function node_0.webhook_endpoint_copies()
returns SETOF json
language plproxy volatile security definer
as $$
  cluster 'node_0';
  run on 0;
  target api.webhook_endpoint_copies;
$$;
